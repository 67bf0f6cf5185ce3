//! The protobuf wire format (<https://protobuf.dev/programming-guides/encoding/>).

/// One field's content.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Content<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64([u8; 8]),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32([u8; 4]),
    /// Wire types 3 and 4 with what is between them: no message of ours has one.
    Group,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("it ends in the middle of a field")]
    Truncated,
    #[error("it has a number of more than 10 bytes")]
    LongVarint,
    #[error("it has a field with the number 0")]
    FieldZero,
    #[error("it has a field of wire type {0}")]
    WireType(u64),
    #[error("it has a group that does not end as it began")]
    Group,
}

/// The fields of a message with their numbers, in the order in which they stand. The first error is the last item.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Content<'_>), WireError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = field(&mut bytes);
        if field.is_err() {
            bytes = &[];
        }
        Some(field)
    })
}

/// Numbers that stand one after the other: a packed list.
pub(super) fn varints(mut bytes: &[u8]) -> Result<Vec<u64>, WireError> {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        numbers.push(varint(&mut bytes)?);
    }
    Ok(numbers)
}

fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Content<'a>), WireError> {
    let (number, wire_type) = tag(bytes)?;
    let content = match wire_type {
        3 => {
            skip_group(bytes, number)?;
            Content::Group
        }
        4 => return Err(WireError::Group),
        _ => content(bytes, wire_type)?,
    };
    Ok((number, content))
}

fn tag(bytes: &mut &[u8]) -> Result<(u64, u64), WireError> {
    let tag = varint(bytes)?;
    match tag >> 3 {
        0 => Err(WireError::FieldZero),
        number => Ok((number, tag & 7)),
    }
}

fn content<'a>(bytes: &mut &'a [u8], wire_type: u64) -> Result<Content<'a>, WireError> {
    match wire_type {
        0 => Ok(Content::Varint(varint(bytes)?)),
        1 => Ok(Content::Fixed64(array(bytes)?)),
        2 => {
            let length = usize::try_from(varint(bytes)?).map_err(|_| WireError::Truncated)?;
            let (head, rest) = bytes.split_at_checked(length).ok_or(WireError::Truncated)?;
            *bytes = rest;
            Ok(Content::Bytes(head))
        }
        5 => Ok(Content::Fixed32(array(bytes)?)),
        other => Err(WireError::WireType(other)),
    }
}

/// Goes to the end of a group, over the groups in it.
fn skip_group(bytes: &mut &[u8], number: u64) -> Result<(), WireError> {
    let mut open = vec![number];
    while let Some(innermost) = open.last().copied() {
        match tag(bytes)? {
            (number, 3) => open.push(number),
            (number, 4) if number == innermost => drop(open.pop()),
            (_, 4) => return Err(WireError::Group),
            (_, wire_type) => drop(content(bytes, wire_type)?),
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(WireError::Truncated)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WireError::LongVarint)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], WireError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(WireError::Truncated)?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Content<'_>)>, WireError> {
        fields(bytes).collect()
    }

    #[test]
    fn fields_of_every_wire_type_are_read() {
        // From the encoding guide: 150 in field 1, "testing" in field 2; then a fixed64, a fixed32, and a group.
        let bytes =
            b"\x08\x96\x01\x12\x07testing\x19\x01\0\0\0\0\0\0\0\x25\x02\0\0\0\x2b\x08\x01\x33\x12\x01x\x34\x2c\x30\x07";
        let wanted = vec![
            (1, Content::Varint(150)),
            (2, Content::Bytes(b"testing")),
            (3, Content::Fixed64([1, 0, 0, 0, 0, 0, 0, 0])),
            (4, Content::Fixed32([2, 0, 0, 0])),
            (5, Content::Group),
            (6, Content::Varint(7)),
        ];
        assert_eq!(read(bytes), Ok(wanted));
        assert_eq!(varints(b"\x03\x8e\x02\x9e\xa7\x05"), Ok(vec![3, 270, 86942]));
    }

    #[test]
    fn what_is_broken_is_said_once() {
        let table: [(&[u8], WireError); 9] = [
            (b"\x08", WireError::Truncated),
            (b"\x08\x80", WireError::Truncated),
            (b"\x12\x03ab", WireError::Truncated),
            (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", WireError::Truncated),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", WireError::LongVarint),
            (b"\x00\x01", WireError::FieldZero),
            (b"\x0e", WireError::WireType(6)),
            (b"\x0c", WireError::Group),
            (b"\x0b\x14", WireError::Group),
        ];
        for (bytes, error) in table {
            assert_eq!(read(bytes), Err(error), "{bytes:02x?}");
            assert_eq!(fields(bytes).count(), 1, "{bytes:02x?}");
        }
        assert_eq!(fields(b"\x08\x01\x00").count(), 2);
    }
}
