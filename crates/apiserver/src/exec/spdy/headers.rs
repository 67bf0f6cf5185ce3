//! SPDY's header blocks: pairs of names and values, compressed with zlib and a dictionary that both sides know.

use bytes::{Buf, BufMut, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The most bytes that a block may have when it is no longer compressed.
const LARGEST: usize = 64 << 10;

/// A header block that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SPDY header block cannot be read: {0}")]
pub(super) struct HeaderError(&'static str);

/// Reads the header blocks of one direction of a connection, in their order.
pub(super) struct Reader(Decompress);

/// Writes the header blocks of one direction of a connection, in their order.
pub(super) struct Writer(Compress);

impl Reader {
    pub(super) fn new() -> Self {
        Reader(Decompress::new(true))
    }

    /// The names, in lower case, and values of a block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, HeaderError> {
        pairs(self.inflate(block)?.into())
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut plain = Vec::with_capacity(1024);
        loop {
            if plain.len() == plain.capacity() {
                if plain.len() >= LARGEST {
                    return Err(HeaderError("it is too large"));
                }
                plain.reserve(plain.len());
            }
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let result = self.0.decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let consumed = (self.0.total_in() - read) as usize;
            block = block.get(consumed..).unwrap_or_default();
            match result {
                Ok(Status::StreamEnd) => return Ok(plain),
                Ok(_) if block.is_empty() && plain.len() < plain.capacity() => return Ok(plain),
                Ok(_) if consumed == 0 && self.0.total_out() == written && plain.len() < plain.capacity() => {
                    return Err(HeaderError("its compression is broken"));
                }
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|_| HeaderError("it needs another dictionary"))?;
                }
                Err(_) => return Err(HeaderError("its compression is broken")),
            }
        }
    }
}

impl Writer {
    pub(super) fn new() -> Result<Self, HeaderError> {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(&dictionary()).map_err(|_| HeaderError("the dictionary is refused"))?;
        Ok(Writer(compress))
    }

    /// The block of some names and values.
    pub(super) fn write(&mut self, headers: &[(&str, &str)]) -> Result<Bytes, HeaderError> {
        let mut plain = Vec::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(text.len() as u32);
                plain.put_slice(text.as_bytes());
            }
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let start = self.0.total_in();
        loop {
            let rest = plain.get((self.0.total_in() - start) as usize..).unwrap_or_default();
            self.0
                .compress_vec(rest, &mut block, FlushCompress::Sync)
                .map_err(|_| HeaderError("it cannot be compressed"))?;
            if block.len() < block.capacity() {
                return Ok(block.into());
            }
            block.reserve(64);
        }
    }
}

pub(super) fn pairs(mut plain: Bytes) -> Result<Vec<(String, String)>, HeaderError> {
    let count = plain.try_get_u32().map_err(|_| SHORT)?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        let (name, value) = (text(&mut plain)?, text(&mut plain)?);
        pairs.push((name.to_lowercase(), value));
    }
    Ok(pairs)
}

const SHORT: HeaderError = HeaderError("it ends early");

fn text(plain: &mut Bytes) -> Result<String, HeaderError> {
    let length = plain.try_get_u32().map_err(|_| SHORT)? as usize;
    if plain.len() < length {
        return Err(SHORT);
    }
    String::from_utf8(plain.split_to(length).into()).map_err(|_| HeaderError("it is not text"))
}

/// The dictionary of SPDY/3 (section 2.6.10.1 of the draft): common names, each after its length in four bytes, and
/// common values without.
fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::with_capacity(1423);
    for name in NAMES.split(' ') {
        // The only entry with a space in it.
        let name = if name == "200" { "200 OK" } else { name };
        dictionary.put_u32(name.len() as u32);
        dictionary.put_slice(name.as_bytes());
    }
    dictionary.put_slice(VALUES.as_bytes());
    dictionary
}

const NAMES: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200 version HTTP/1.1 url public set-cookie keep-alive \
    origin";

const VALUES: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
    publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dictionary_is_that_of_the_draft() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        // Adler-32, by which zlib names a dictionary (RFC 1950): the one that SPDY/3 peers send.
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in dictionary {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((b << 16) | a, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_share_one_compression() {
        let (mut writer, mut reader) = (Writer::new().unwrap(), Reader::new());
        for headers in
            [&[("streamtype", "stdin"), ("content-type", "text/plain")][..], &[], &[("streamtype", "stdout")]]
        {
            let block = writer.write(headers).unwrap();
            let expected: Vec<(String, String)> =
                headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(reader.read(&block).unwrap(), expected);
        }
    }

    #[test]
    fn a_block_that_grows_without_end_is_refused() {
        let value = "x".repeat(1 << 20);
        let block = Writer::new().unwrap().write(&[("a", &value)]).unwrap();
        assert_eq!(Reader::new().read(&block), Err(HeaderError("it is too large")));
    }

    proptest! {
        #[test]
        fn any_block_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), at in 0..64_usize, to: u8) {
            let _ = Reader::new().read(&bytes);
            let _ = pairs(bytes.into());
            let block = Writer::new().unwrap().write(&[("streamtype", "error")]).unwrap();
            let mut broken = block.to_vec();
            let at = at % broken.len();
            broken[at] = to;
            let _ = Reader::new().read(&broken);
        }
    }
}
