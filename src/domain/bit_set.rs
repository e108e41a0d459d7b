//! Sets of small numbers, as tight as they can be where many of them are in: seats of a plan, those inside a waiting room.

use serde::Serialize;

/// Some numbers: a bit each, the lowest of a byte first, up to the last that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct BitSet(Vec<u8>);

impl BitSet {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether `number` is one of them.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.0.get(number as usize / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1)
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.0.len() as u32 * 8).filter(|number| self.contains(*number))
    }
}

impl FromIterator<u32> for BitSet {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut bytes = Vec::new();
        for number in numbers {
            let byte = number as usize / 8;
            bytes.resize(bytes.len().max(byte + 1), 0);
            bytes[byte] |= 1 << (number % 8);
        }
        Self(bytes)
    }
}

impl<C> minicbor::Encode<C> for BitSet {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }

    fn is_nil(&self) -> bool {
        self.is_empty()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for BitSet {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.datatype()? == minicbor::data::Type::Null {
            d.null()?;
            return Ok(Self::default());
        }
        Ok(Self(d.bytes()?.to_vec()))
    }

    fn nil() -> Option<Self> {
        Some(Self::default())
    }
}
