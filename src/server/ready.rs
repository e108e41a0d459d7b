//! What is sent as it is to many, as it stands or as gzip: which of the two somebody gets, and what goes with it.

use std::fmt::Write as _;
use std::sync::OnceLock;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use flate2::{Compress, Compression, FlushCompress};
use xxhash_rust::xxh3::xxh3_64;

use super::bodies::{Piece, Rope};
use super::respond::{Cache, is_known};

/// What begins every gzip: no name, no time, no system.
const HEAD: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
/// What a block that is not compressed may have.
const STORED_BYTES_MAX: usize = u16::MAX as usize;
/// At 8 the plan of a stadium is a tenth smaller, and takes three times as long.
const LEVEL: u32 = 6;

/// The two forms of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it stands.
    Identity,
    /// Compressed.
    Gzip,
}

impl Coding {
    /// What the sender of these would rather have: gzip, unless they do not say that they know it, or like it less. Who
    /// refuses both gets the text as it stands, which everybody can read.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let (mut gzip, mut identity, mut others) = (None, None, None);
        let lists = headers.get_all(header::ACCEPT_ENCODING).filter_map(|list| list.to_str().ok());
        for item in lists.flat_map(|list| list.split(',')) {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let Some(weight) = weight(parameters) else { continue };
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = Some(weight),
                "identity" => identity = Some(weight),
                "*" => others = Some(weight),
                _ => {}
            }
        }
        let gzip = gzip.or(others).unwrap_or(0);
        let identity = identity.or(others).unwrap_or(0);
        if gzip > 0 && gzip >= identity { Self::Gzip } else { Self::Identity }
    }
}

/// A weight, in thousandths; `None` if it is not one.
fn weight(parameters: &str) -> Option<u16> {
    let parameters = parameters.trim();
    if parameters.is_empty() {
        return Some(1_000);
    }
    let (name, value) = parameters.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, rest) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let is_number = rest.len() <= 3 && rest.bytes().all(|b| b.is_ascii_digit());
    let thousandths = format!("{rest:0<3}").parse().ok().filter(|_| is_number)?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1_000),
        _ => None,
    }
}

/// One form of a text, as one request is to get it.
#[derive(Debug)]
pub struct Form {
    /// Which.
    pub coding: Coding,
    etag: String,
    cache: Cache,
}

impl Form {
    /// The one for `request` of a text that `tag` tells from all others.
    #[must_use]
    pub fn of(request: &HttpRequest, tag: &str, cache: Cache) -> Self {
        let coding = Coding::of(request.headers());
        let etag = match coding {
            Coding::Identity => format!("\"{tag}\""),
            Coding::Gzip => format!("\"{tag}-gzip\""),
        };
        Self { coding, etag, cache }
    }

    /// `304` if that is what `request` has.
    #[must_use]
    pub fn not_modified(&self, request: &HttpRequest) -> Option<HttpResponse> {
        is_known(request, &self.etag).then(|| self.mark(HttpResponse::build(StatusCode::NOT_MODIFIED).finish()))
    }

    /// `200` with `body`, which is of this form.
    #[must_use]
    pub fn ok(&self, media_type: &str, body: Rope) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        response.content_type(media_type);
        if self.coding == Coding::Gzip {
            response.insert_header((header::CONTENT_ENCODING, "gzip"));
        }
        self.mark(response.body(BoxBody::new(body)))
    }

    /// Sets the headers that are the same whether or not there is a body.
    fn mark(&self, mut response: HttpResponse) -> HttpResponse {
        let headers = response.headers_mut();
        let (name, value) = self.cache.header();
        headers.insert(name, HeaderValue::from_static(value));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

/// A text that does not change, in both forms. It is compressed when the first one asks for that.
#[derive(Debug)]
pub struct Ready {
    plain: Piece,
    gzip: OnceLock<Piece>,
    tag: String,
}

impl Ready {
    /// This text.
    #[must_use]
    pub fn new(plain: Piece) -> Self {
        let mut tag = String::new();
        // Writing to a string cannot fail.
        let _ = write!(tag, "{:016x}", xxh3_64(plain.as_ref()));
        Self { plain, gzip: OnceLock::new(), tag }
    }

    /// What answers `request`.
    #[must_use]
    pub fn answer(&self, request: &HttpRequest, media_type: &str, cache: Cache) -> HttpResponse {
        let form = Form::of(request, &self.tag, cache);
        let body = || match form.coding {
            Coding::Identity => self.plain.clone(),
            Coding::Gzip => self.compress().clone(),
        };
        form.not_modified(request).unwrap_or_else(|| form.ok(media_type, body().into()))
    }

    /// Compresses it, if that was not done before.
    pub fn compress(&self) -> &Piece {
        self.gzip.get_or_init(|| Piece::new(Packed::new(self.plain.as_ref()).end(&[])))
    }
}

/// The beginning of a text as gzip, to which an end can be put without compressing it again.
#[derive(Debug, Default)]
pub struct Packed {
    /// All whole blocks of it.
    blocks: Vec<u8>,
    crc: u32,
    len: u32,
}

impl Packed {
    /// Compresses `text`.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let mut deflate = Compress::new(Compression::new(LEVEL), false);
        let mut blocks = HEAD.to_vec();
        loop {
            // It writes into what is reserved, and no further.
            blocks.reserve((text.len() / 4).max(1_024));
            let read = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
            // It fails on a wrong use of it only.
            let _ = deflate.compress_vec(text.get(read..).unwrap_or_default(), &mut blocks, FlushCompress::Sync);
            if blocks.len() < blocks.capacity() {
                break;
            }
        }
        blocks.shrink_to_fit();
        // The length is told modulo 2^32.
        Self { blocks, crc: crc32fast::hash(text), len: text.len() as u32 }
    }

    /// Takes the blocks, all that is large; [`tail`](Self::tail) goes on behind them.
    #[must_use]
    pub fn take_blocks(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.blocks)
    }

    /// What follows the blocks, if `end` is the end of the text: stored as it is.
    #[must_use]
    pub fn tail(&self, end: &[u8]) -> Vec<u8> {
        let mut tail = Vec::with_capacity(end.len() + 32);
        let mut rest = end;
        loop {
            let (block, others) = rest.split_at(rest.len().min(STORED_BYTES_MAX));
            let len = block.len() as u16;
            tail.push(u8::from(others.is_empty()));
            tail.extend(len.to_le_bytes());
            tail.extend((!len).to_le_bytes());
            tail.extend(block);
            rest = others;
            if rest.is_empty() {
                break;
            }
        }
        let mut crc = crc32fast::Hasher::new_with_initial(self.crc);
        crc.update(end);
        tail.extend(crc.finalize().to_le_bytes());
        tail.extend(self.len.wrapping_add(end.len() as u32).to_le_bytes());
        tail
    }

    /// The whole, if `end` is the end of the text.
    #[must_use]
    pub fn end(mut self, end: &[u8]) -> Vec<u8> {
        let tail = self.tail(end);
        self.blocks.extend(tail);
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use actix_web::test::TestRequest;
    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_somebody_would_rather_have() {
        use Coding::{Gzip, Identity};
        for (lists, coding) in [
            (&[][..], Identity),
            (&[""], Identity),
            (&["gzip"], Gzip),
            (&["GZip"], Gzip),
            (&["x-gzip"], Gzip),
            (&["br, gzip, deflate"], Gzip),
            (&["br", "gzip;q=0.1"], Gzip),
            (&["br, deflate"], Identity),
            (&["gzip;q=0"], Identity),
            (&["gzip;q=0.000"], Identity),
            (&["gzip;q=0, *"], Identity),
            (&["*"], Gzip),
            (&["*;q=0"], Identity),
            (&["*;q=0, gzip"], Gzip),
            (&["gzip;q=0.5, identity"], Identity),
            (&["gzip;q=0.5, identity;q=0.4"], Gzip),
            (&["gzip; q = 0.5 ,identity;q=0.500"], Gzip),
            (&["gzip;q=0.5, *;q=1"], Identity),
            (&["identity;q=0"], Identity),
            (&["identity;q=0, gzip;q=0.001"], Gzip),
            (&["identity;q=0, *"], Gzip),
            (&["gzip;q=2"], Identity),
            (&["gzip;q=1.001"], Identity),
            (&["gzip;q=0.1234"], Identity),
            (&["gzip;q=-1"], Identity),
            (&["gzip;x=1"], Identity),
            (&["gzip;q="], Identity),
            (&["gzipped"], Identity),
        ] {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(list));
            }
            assert_eq!(Coding::of(&headers), coding, "{lists:?}");
        }
    }

    fn unpacked(gzip: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        GzDecoder::new(gzip).read_to_end(&mut text).unwrap();
        text
    }

    proptest! {
        #[test]
        fn a_text_with_an_end_is_one_gzip(
            text in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..20_000),
                proptest::collection::vec(97..100_u8, 0..20_000),
            ],
            end in proptest::collection::vec(any::<u8>(), 0..100),
            times in prop_oneof![Just(1_usize), Just(700), Just(1_500)],
        ) {
            let end = end.repeat(times);
            let packed = Packed::new(&text).end(&end);
            prop_assert_eq!(unpacked(&packed), [&text[..], &end].concat());
        }
    }

    #[test]
    fn each_form_has_a_tag_of_its_own() {
        let ready = Ready::new(Piece::new("text ".repeat(1_000)));
        let ask = |accepts: &str, has: &str| {
            let request = TestRequest::default()
                .insert_header((header::ACCEPT_ENCODING, accepts))
                .insert_header((header::IF_NONE_MATCH, has))
                .to_http_request();
            ready.answer(&request, "text/plain", Cache::Revalidate)
        };
        let of = |response: &HttpResponse, name| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
        let tag = |response: &HttpResponse| of(response, header::ETAG);
        let (plain, gzip) = (tag(&ask("", "")), tag(&ask("gzip", "")));
        assert_ne!(plain, gzip);
        for (accepts, has, status) in [
            ("", plain.as_str(), 304),
            ("", gzip.as_str(), 200),
            ("gzip", plain.as_str(), 200),
            ("gzip", gzip.as_str(), 304),
            ("gzip", &format!("{plain}, W/{gzip}"), 304),
            ("gzip", "*", 304),
        ] {
            let response = ask(accepts, has);
            assert_eq!(response.status(), status, "{accepts} {has}");
            assert_eq!(of(&response, header::VARY), "Accept-Encoding");
            assert_eq!(of(&response, header::CACHE_CONTROL), "no-cache");
            assert_eq!(tag(&response), if accepts.is_empty() { plain.as_str() } else { &gzip });
            let is_packed = response.headers().contains_key(header::CONTENT_ENCODING);
            assert_eq!(is_packed, status == 200 && !accepts.is_empty());
        }
    }
}
