//! The program from outside.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

fn history() -> Command {
    Command::new(env!("CARGO_BIN_EXE_boxoffice-history"))
}

#[test]
fn a_wrong_flag_ends_with_2_and_a_wrong_database_with_1() {
    let code = |arguments: &[&str]| {
        let given = history().args(arguments).env_remove("KAFKA_BOOTSTRAP").stderr(Stdio::null()).status();
        given.unwrap().code()
    };
    assert_eq!(code(&[]), Some(2), "it must know where the brokers are");
    assert_eq!(code(&["--kafka-bootstrap", "a:1", "--speed", "9"]), Some(2));
    assert_eq!(code(&["--kafka-bootstrap", "a:1", "--database-url", "mysql://a"]), Some(1));
}

#[test]
fn one_process_has_a_database_also_while_there_is_no_broker() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("history.db").display());
    let arguments = ["--kafka-bootstrap", "127.0.0.1:1", "--database-url", &url, "--listen", "127.0.0.1:0"];
    let mut first = history().args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(first.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on http://127.0.0.1:"), "{line}");
    let second = history().args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert_eq!(second.code(), Some(1));
    first.kill().unwrap();
    first.wait().unwrap();
}
