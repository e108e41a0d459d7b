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

/// A `Vec` that is left out when it is empty; for `#[cbor(with = "crate::domain::cbor::list", has_nil)]`.
pub(crate) mod list {
    use minicbor::data::Type;
    use minicbor::decode::{Decode, Decoder};
    use minicbor::encode::{Encode, Encoder, Write};

    pub(crate) fn encode<C, T: Encode<C>, W: Write>(
        items: &[T],
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        if items.is_empty() {
            return e.null()?.ok();
        }
        items.encode(e, ctx)
    }

    pub(crate) fn decode<'b, C, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Vec<T>, minicbor::decode::Error> {
        if d.datatype()? == Type::Null {
            d.null()?;
            return Ok(Vec::new());
        }
        Vec::decode(d, ctx)
    }

    pub(crate) fn is_nil<T>(items: &[T]) -> bool {
        items.is_empty()
    }

    #[expect(clippy::unnecessary_wraps, reason = "the derive asks for it")]
    pub(crate) fn nil<T>() -> Option<Vec<T>> {
        Some(Vec::new())
    }
}

/// A number that is left out when it is 0; for `#[cbor(with = "crate::domain::cbor::count", has_nil)]`.
pub(crate) mod count {
    use minicbor::data::Type;
    use minicbor::decode::Decoder;
    use minicbor::encode::{Encoder, Write};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the derive asks for it")]
    pub(crate) fn encode<C, W: Write>(
        count: &u32,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        if *count == 0 { e.null()?.ok() } else { e.u32(*count)?.ok() }
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u32, minicbor::decode::Error> {
        if d.datatype()? == Type::Null {
            d.null()?;
            return Ok(0);
        }
        d.u32()
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the derive asks for it")]
    pub(crate) fn is_nil(count: &u32) -> bool {
        *count == 0
    }

    #[expect(clippy::unnecessary_wraps, reason = "the derive asks for it")]
    pub(crate) fn nil() -> Option<u32> {
        Some(0)
    }
}

/// A change of something that may be absent itself, as a list of at most one; for
/// `#[cbor(with = "crate::domain::cbor::patch", has_nil)]`. Plainly written, "make it absent" and "leave it" would be the same.
pub(crate) mod patch {
    use minicbor::decode::{Decode, Decoder};
    use minicbor::encode::{Encode, Encoder, Write};

    pub(crate) fn encode<C, T: Encode<C>, W: Write>(
        change: &Option<Option<T>>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        change.as_ref().map(std::array::from_ref::<Option<T>>).encode(e, ctx)
    }

    pub(crate) fn decode<'b, C, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Option<Option<T>>, minicbor::decode::Error> {
        let change = Option::<[Option<T>; 1]>::decode(d, ctx)?;
        Ok(change.map(|[change]| change))
    }

    pub(crate) fn is_nil<T>(change: &Option<Option<T>>) -> bool {
        change.is_none()
    }

    #[expect(clippy::unnecessary_wraps, clippy::option_option, reason = "the derive asks for it")]
    pub(crate) fn nil<T>() -> Option<Option<Option<T>>> {
        Some(None)
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
