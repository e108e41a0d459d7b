//! The program from outside.

use std::process::{Command, Stdio};

#[test]
fn a_wrong_flag_ends_with_2_and_what_cannot_be_read_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let recipients = dir.path().join("recipients.json");
    std::fs::write(&recipients, r#"{"anna": {"phone": "112"}}"#).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice-notification"));
        let output = command.args(arguments).env_remove("KAFKA_BOOTSTRAP").stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let known = ["--kafka-bootstrap", "a:1", "--recipients", recipients.to_str().unwrap()];
    assert_eq!(run(&known[..2]).0, Some(2), "it must know who gets messages");
    for wrong in [["--rate", "0"], ["--max-age", "soon"], ["--speed", "9"]] {
        assert_eq!(run(&[&known[..], &wrong].concat()).0, Some(2), "{wrong:?}");
    }
    let (code, said) = run(&known);
    assert_eq!(code, Some(1));
    assert!(said.contains("--recipients") && said.contains("phone"), "{said}");
}
