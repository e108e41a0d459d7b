//! How the domain's own containers stand in events and rows.

/// A `SmallVec` as an array; for `#[cbor(with = "crate::domain::cbor::small")]`.
pub(crate) mod small {
    use minicbor::decode::{Decode, Decoder};
    use minicbor::encode::{Encode, Encoder, Write};
    use smallvec::{Array, SmallVec};

    pub(crate) fn encode<C, A: Array, W: Write>(
        items: &SmallVec<A>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>>
    where
        A::Item: Encode<C>,
    {
        e.array(items.len() as u64)?;
        items.iter().try_for_each(|item| item.encode(e, ctx))
    }

    pub(crate) fn decode<'b, C, A: Array>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<SmallVec<A>, minicbor::decode::Error>
    where
        A::Item: Decode<'b, C>,
    {
        d.array_iter_with(ctx)?.collect()
    }
}

/// Most rows are shorter. None is kept as it is for long, so nothing is shrunk.
const ROW_BYTES: usize = 256;

/// The bytes of a row.
pub(crate) fn to_vec<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    let mut row = Vec::with_capacity(ROW_BYTES);
    // Writing to memory cannot fail, and no encoder here reports an error of its own.
    minicbor::encode(value, &mut row).expect("encoding into memory");
    row
}

/// Reads a row.
pub(crate) fn from_row<'b, T: minicbor::Decode<'b, ()>>(
    part: &impl std::fmt::Debug,
    row: &'b [u8],
) -> Result<T, super::CorruptRow> {
    minicbor::decode(row).map_err(|source| super::CorruptRow { part: format!("{part:?}"), source })
}

#[cfg(test)]
mod tests;
