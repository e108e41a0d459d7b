//! What benchmarks of receivers have in common: a house of pairs of seats.

use boxoffice::{Engine, NewConcert, NewOption, OptionId, Points};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// An option on sale: so many rows of two seats, of which row 7 has `7-1` and `7-2`, for a point each.
pub async fn pairs_on_sale(engine: &Engine, pairs: usize) -> Result<OptionId> {
    let concert = NewConcert { title: "Bench".into(), waiting_room: boxoffice::Settings::default() };
    let concert = engine.create_concert(concert, None).await?.value;
    let option = NewOption {
        prices: vec![("A".into(), Points::new(1).ok_or("points")?)],
        ..NewOption::new(engine.now().plus_millis(1 << 32), house(pairs))
    };
    Ok(engine.add_option(concert.id, option, None).await?.value.id)
}

fn house(rows: usize) -> Vec<u8> {
    let seat = |row: usize, n: usize| {
        let (x, y) = (n * 30, row * 40);
        format!(r#"{{"seat_guid":"{row}-{n}","seat_number":"{n}","category":"A","position":{{"x":{x},"y":{y}}}}}"#)
    };
    let row = |row| format!(r#"{{"row_number":"{row}","seats":[{},{}]}}"#, seat(row, 1), seat(row, 2));
    let rows: Vec<_> = (0..rows).map(row).collect();
    format!(r#"{{"categories":[{{"name":"A"}}],"zones":[{{"name":"Hall","rows":[{}]}}]}}"#, rows.join(",")).into_bytes()
}
