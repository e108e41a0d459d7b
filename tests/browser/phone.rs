//! The shop under a thumb: what scrolls, what moves the map, and that nothing lies over anything.

use serde_json::{Value, json};

use crate::browser::{Browsers, Look, Window, theatre};
use crate::harness::{STARTS_AT, Server};

const MAP: &str = "document.querySelector('.map').seatMap";

/// A phone on the map of a performance.
async fn phone(browsers: &Browsers, server: &Server, user: &str, option: &str) -> Window {
    let window = browsers.window(server, Look::PHONE).await;
    let touch = json!({"enabled": true, "maxTouchPoints": 5});
    window.driver.cdp().send_raw("Emulation.setTouchEmulationEnabled", touch).await.unwrap();
    window.open_as("/", &server.buyer(user), &format!("#/options/{option}")).await;
    window.until("document.querySelector('.map')?.seatMap.painted").await;
    window
}

/// Puts fingers down, moves each by the same way in steps, and lifts them.
async fn drag(window: &Window, fingers: &[[f64; 2]], ways: &[[f64; 2]]) {
    const STEPS: u32 = 8;
    let cdp = window.driver.cdp();
    for n in 1..=fingers.len() {
        let points: Vec<Value> = (0..n).map(|k| json!({"x": fingers[k][0], "y": fingers[k][1], "id": k})).collect();
        let event = json!({"type": "touchStart", "touchPoints": points});
        cdp.send_raw("Input.dispatchTouchEvent", event).await.unwrap();
    }
    for step in 1..=STEPS {
        let share = f64::from(step) / f64::from(STEPS);
        let at = |k: usize, axis: usize| fingers[k][axis] + share * ways[k][axis];
        let points: Vec<Value> = (0..fingers.len()).map(|k| json!({"x": at(k, 0), "y": at(k, 1), "id": k})).collect();
        let event = json!({"type": "touchMove", "touchPoints": points});
        cdp.send_raw("Input.dispatchTouchEvent", event).await.unwrap();
    }
    let event = json!({"type": "touchEnd", "touchPoints": []});
    cdp.send_raw("Input.dispatchTouchEvent", event).await.unwrap();
}

/// Where the middle of the map is on the screen.
async fn middle(window: &Window) -> [f64; 2] {
    let middle = window
        .script("const b = document.querySelector('.map').getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]")
        .await;
    [0, 1].map(|axis| middle[axis].as_f64().unwrap())
}

async fn view(window: &Window) -> Value {
    window.script(&format!("const {{scale, x, y}} = {MAP}.view; return [scale, x, y]")).await
}

#[tokio::test]
async fn a_swipe_scrolls_the_page_and_moves_the_map_once_it_is_opened() {
    let name = "a_swipe_scrolls_the_page_and_moves_the_map_once_it_is_opened";
    let Some(browsers) = Browsers::start(name).await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let window = phone(&browsers, &server, "anna", &option).await;
    // The best seats come before the map.
    let order = "return document.querySelector('#best').compareDocumentPosition(document.querySelector('.map')) & 4";
    assert_eq!(window.script(order).await, json!(4));

    let before = view(&window).await;
    let [x, y] = middle(&window).await;
    // A page that was thrown goes on for a while.
    window.script("addEventListener('scrollend', () => { window.isAtRest = true; }, {once: true})").await;
    drag(&window, &[[x, y]], &[[0.0, -200.0]]).await;
    window.until("scrollY > 100 && window.isAtRest").await;
    assert_eq!(view(&window).await, before);
    window.script("scrollTo(0, 0)").await;
    window.until("scrollY === 0").await;

    // Two fingers are the map's in any case.
    let apart = [[x - 20.0, y], [x + 20.0, y]];
    drag(&window, &apart, &[[-60.0, 0.0], [60.0, 0.0]]).await;
    window.until(&format!("{MAP}.view.scale > {}", before[0].as_f64().unwrap() * 2.0)).await;
    assert_eq!(window.script("return scrollY").await, json!(0));
    let before = view(&window).await;
    drag(&window, &apart, &[[0.0, -80.0], [0.0, -80.0]]).await;
    window.until(&format!("{MAP}.view.y < {} - 60", before[2])).await;
    assert_eq!(window.script("return scrollY").await, json!(0));

    window.tap(".opener").await;
    window.until(&format!("{MAP}.isOpen")).await;
    let full =
        "const {width, height} = document.querySelector('.map').getBoundingClientRect(); return [width, height > 600]";
    assert_eq!(window.script(full).await, json!([390, true]));
    let before = view(&window).await;
    let [x, y] = middle(&window).await;
    drag(&window, &[[x, y]], &[[0.0, 90.0]]).await;
    window.until(&format!("{MAP}.view.y > {} + 60", before[2])).await;
    window.tap_seat("S-C-12").await;
    window.find("#hold").await;
    window.picture("map-opened").await;
    window.tap(".opener").await;
    window.until(&format!("!{MAP}.isOpen")).await;

    // From afar a tap leads there.
    window.script(&format!("{MAP}.show({MAP}.fitted())")).await;
    let [x, y] = middle(&window).await;
    drag(&window, &[[x, y]], &[[0.0, 0.0]]).await;
    window.until(&format!("{MAP}.isOpen && !{MAP}.gliding && {MAP}.canHit(true)")).await;
    assert!(window.text("#touched").await.contains("left"));
    window.close().await;
}

#[tokio::test]
async fn the_way_back_closes_the_map_and_then_leaves_the_page() {
    let Some(browsers) = Browsers::start("the_way_back_closes_the_map_and_then_leaves_the_page").await else { return };
    let server = Server::start().await;
    let (concert, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let window = phone(&browsers, &server, "anna", &option).await;
    window.script(&format!("location.hash = '#/concerts/{concert}'")).await;
    window.find(".dates").await;
    window.tap(".dates a").await;
    window.until("document.querySelector('.map')?.seatMap.painted").await;
    window.tap(".opener").await;
    window.until(&format!("{MAP}.isOpen")).await;
    window.tap_seat("S-C-12").await;
    window.driver.back().await.unwrap();
    window.until(&format!("!{MAP}.isOpen && {MAP}.chosen.size === 1")).await;
    // Its own button leaves nothing behind that one would have to go back through.
    window.tap(".opener").await;
    window.until(&format!("{MAP}.isOpen")).await;
    // As it was, also after a reload.
    window.driver.refresh().await.unwrap();
    window.until("document.querySelector('.map')?.seatMap.isOpen").await;
    window.tap(".opener").await;
    window.until(&format!("!{MAP}.isOpen && history.state === null")).await;
    window.driver.back().await.unwrap();
    window.find(".dates").await;
    window.close().await;
}

#[tokio::test]
async fn the_name_of_the_stage_is_not_written_over() {
    let Some(browsers) = Browsers::start("the_name_of_the_stage_is_not_written_over").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let window = phone(&browsers, &server, "anna", &option).await;
    let tags = format!(
        "const {{painter}} = {MAP}; const tags = []; const {{writeTag}} = painter;
         painter.writeTag = function (ctx, text, ...rest) {{ tags.push(text); return writeTag.call(this, ctx, text, ...rest); }};
         {MAP}.paintAbove(); delete painter.writeTag; return tags"
    );
    let tags = window.script(&tags).await;
    assert_eq!(tags[0], "Stalls");
    assert_eq!(tags[1], "Dress Circle · 342 left · from 8,000 points");
    window.close().await;
}

/// What is in the sheet and cannot be touched, since something lies over it; what is below it for good; and toasts over it.
const COVERED: &str = "const sheet = document.querySelector('.sheet'); const box = sheet.getBoundingClientRect();
    const shown = [...sheet.querySelectorAll('button, a, p, strong')].filter((e) => e.checkVisibility());
    const isCovered = (e) => { e.scrollIntoView({block: 'nearest', inline: 'nearest'}); const b = e.getBoundingClientRect();
        const top = document.elementFromPoint(b.left + b.width / 2, b.top + b.height / 2); return !(e.contains(top) || top?.contains(e)); };
    const covered = shown.filter(isCovered).map((e) => e.outerHTML);
    const toasts = [...document.querySelectorAll('.toast')].filter((e) => e.checkVisibility() && e.getBoundingClientRect().bottom > box.top).map((e) => e.outerHTML);
    const isSmall = (e) => { const b = e.getBoundingClientRect(); return b.height < 32 || b.width < 32; };
    const small = [...sheet.querySelectorAll('button')].filter(isSmall).map((e) => e.outerHTML);
    scrollTo(0, 99999);
    const last = document.querySelector('#list').getBoundingClientRect();
    return {covered, toasts, small, hidden: last.bottom > sheet.getBoundingClientRect().top, shown: shown.length > 0,
        inside: box.bottom <= innerHeight && box.top >= 0}";

#[tokio::test]
async fn nothing_lies_over_the_sheet_and_nothing_stays_below_it() {
    let Some(browsers) = Browsers::start("nothing_lies_over_the_sheet_and_nothing_stays_below_it").await else {
        return;
    };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    server.hold(&option, &server.buyer("anna"), &["S-A-1", "S-A-2"]).await;
    let window = phone(&browsers, &server, "anna", &option).await;
    for seat in ["S-K-12", "S-K-13", "S-K-14"] {
        window.tap_seat(seat).await;
    }
    window.until(&format!("{MAP}.chosen.size === 3")).await;
    server.hold(&option, &server.buyer("ben"), &["S-K-13"]).await;
    window.find("#nearest").await;
    // All at once: what is gone, what is held, what was touched, what is chosen, and messages.
    window.script("for (let k = 0; k < 3; k += 1) dispatchEvent(new Event('offline'))").await;
    window.picture("sheet-full").await;
    let sheet = window.text(".sheet").await;
    for part in ["Just gone", "You are holding 2 places", "Row K", "2 places", "Hold for"] {
        assert!(sheet.contains(part), "{part}: {sheet}");
    }
    let fine = json!({"covered": [], "toasts": [], "small": [], "hidden": false, "shown": true, "inside": true});
    assert_eq!(window.script(COVERED).await, fine);
    window.script(&format!("{MAP}.open(true)")).await;
    window.picture("sheet-full-opened").await;
    let opened = window.script(COVERED).await;
    assert_eq!((&opened["covered"], &opened["toasts"], &opened["inside"]), (&json!([]), &json!([]), &json!(true)));
    window.script(&format!("{MAP}.open(false)")).await;
    window.tap("#nearest").await;
    window.until(&format!("{MAP}.chosen.size === 3")).await;
    window.close().await;
}

#[tokio::test]
async fn the_card_of_a_touched_seat_stays() {
    let Some(browsers) = Browsers::start("the_card_of_a_touched_seat_stays").await else { return };
    let server = Server::start().await;
    let more = json!({"accessible": ["Wheelchair"]});
    let (_, option) = theatre(&server, "Chamber Music", json!({}), more).await;
    let window = phone(&browsers, &server, "anna", &option).await;
    window.tap_seat("S-C-12").await;
    let card = window.text("#touched").await;
    for part in ["Stalls", "Row C", "Seat", "Premium", "12,000 points", "Chosen by you"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    // It tells what becomes of the seat.
    window.tap_seat("S-C-12").await;
    window.until("document.querySelector('#touched')?.innerText.includes('Free')").await;
    server.hold(&option, &server.buyer("ben"), &["S-C-12"]).await;
    window.until("document.querySelector('#touched')?.innerText.includes('Held by somebody else')").await;
    // Until another one is touched: here one for a wheelchair.
    let wheelchair = format!(
        "const {{plan}} = {MAP}; return plan.guids[plan.categoryOf.findIndex((c) => plan.categories[c].name === 'Wheelchair')]"
    );
    let wheelchair = window.script(&wheelchair).await;
    window.tap_seat(wheelchair.as_str().unwrap()).await;
    window.until("document.querySelector('#touched')?.innerText.includes('Place for a wheelchair')").await;
    window.picture("card").await;
    window.tap("#touched [aria-label=Close]").await;
    window.until_gone("#touched").await;
    assert_eq!(window.script(&format!("return {MAP}.marked")).await, json!(-1));
    window.close().await;
}

#[tokio::test]
async fn the_legend_filters_by_category_and_price() {
    let Some(browsers) = Browsers::start("the_legend_filters_by_category_and_price").await else { return };
    let server = Server::start().await;
    let (_, option) = theatre(&server, "Chamber Music", json!({}), json!({})).await;
    let window = phone(&browsers, &server, "anna", &option).await;
    let wanted = format!(
        "const {{plan, painter}} = {MAP}; return painter.filter && [...painter.filter].map((c) => plan.categories[c].name).sort()"
    );
    assert_eq!(window.script(&wanted).await, json!(null));
    window.tap(".filter:nth-of-type(1)").await;
    assert_eq!(window.script(&wanted).await, json!(["Premium"]));
    window.picture("filtered").await;
    assert_eq!(window.script("return document.querySelector('.filter').getAttribute('aria-pressed')").await, "true");
    let faint = format!(
        "const {{painter, plan}} = {MAP}; const [a, b] = [plan.index.get('S-C-12'), plan.index.get('S-Q-9')];
         return [painter.styleOf(a) === plan.categoryOf[a], painter.styleOf(b) > 0xffff]"
    );
    assert_eq!(window.script(&faint).await, json!([true, true]));
    window.tap(".filters .ghost").await;
    let price = "const most = document.getElementById('price-most'); most.value = '8000'; most.dispatchEvent(new Event('change'))";
    window.script(price).await;
    assert_eq!(window.script(&wanted).await, json!(["Restricted", "Standard", "Wheelchair"]));
    // As the plan says: red, blue, brown, green.
    let colors = format!(
        "const {{plan, painter}} = {MAP}; return plan.categories.map(({{color}}, i) => [color, painter.tones.category(i)])"
    );
    for pair in window.script(&colors).await.as_array().unwrap() {
        assert_eq!(pair[0], pair[1]);
    }
    // A section tells what is left of it and what that costs at least.
    let words = format!(
        "const {{painter, plan}} = {MAP}; return painter.words.zone(plan.zones.find((z) => z.name === 'Upper Circle'))"
    );
    assert_eq!(window.script(&words).await, json!(["405 left", "from 4,500 points"]));
    window.close().await;
}

#[tokio::test]
async fn areas_are_on_the_map_and_held_from_there() {
    let Some(browsers) = Browsers::start("areas_are_on_the_map_and_held_from_there").await else { return };
    let server = Server::start().await;
    let concert = server.concert().await;
    let seats: Vec<Value> = (0..12)
        .map(|k| json!({"seat_guid": format!("B{k}"), "seat_number": k.to_string(), "category": "Seated", "position": {"x": 30 * k, "y": 300}}))
        .collect();
    let floor = json!({"rectangle": {"width": 330, "height": 200}, "position": {"x": 0, "y": 0}, "text": {"text": "floor"}, "color": "#cccccc"});
    let plan = json!({"categories": [{"name": "Seated", "color": "#7f4a91"}],
        "zones": [{"name": "Balcony", "rows": [{"row_number": "1", "seats": seats}], "areas": [floor]}]});
    let option = json!({"starts_at": STARTS_AT, "seating_plan": plan, "prices": {"Seated": 50, "Standing": 30}, "areas": [
        {"name": "Floor", "capacity": 40, "category": "Standing"}, {"name": "Gallery", "capacity": 6, "category": "Standing"}]});
    let option = server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, option).await.created();
    let window = phone(&browsers, &server, "anna", &option).await;
    // One that the plan draws, and one that it knows nothing of, below all else.
    let areas = format!(
        "const {{plan}} = {MAP}; return plan.shapes.filter((s) => s.area).map((s) => [s.area.name, s.y > 300])"
    );
    assert_eq!(window.script(&areas).await, json!([["Floor", false], ["Gallery", true]]));
    let place = format!(
        "const {{plan, view, node}} = {MAP}; const shape = plan.shapes.find((s) => s.area.name === 'Floor'); const b = node.getBoundingClientRect();
         return [b.left + (shape.x + shape.width / 2) * view.scale + view.x, b.top + (shape.y + shape.height / 2) * view.scale + view.y]"
    );
    let place = window.script(&place).await;
    drag(&window, &[[place[0].as_f64().unwrap(), place[1].as_f64().unwrap()]], &[[0.0, 0.0]]).await;
    let card = window.text("#touched").await;
    assert!(card.contains("Floor") && card.contains("40 left") && card.contains("30 points"), "{card}");
    window.picture("area").await;
    for _ in 0..2 {
        window.tap("#touched [aria-label=More]").await;
    }
    window.tap("#hold").await;
    assert!(window.text(".lines").await.contains("Floor × 2"));
    window.close().await;
}
