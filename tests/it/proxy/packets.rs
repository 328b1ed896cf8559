//! The words of PostgreSQL's protocol that the tests speak. (PostgreSQL documentation, "Message Formats".)

pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
pub const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
/// AuthenticationOk and ReadyForQuery: all that a driver needs to believe in a server.
pub const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

/// The last that a client says.
pub const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// A StartupMessage of protocol 3.`minor`.
pub fn startup(minor: u8, user: &str) -> Vec<u8> {
    let parameters = format!("user\0{user}\0\0");
    let length = u32::try_from(8 + parameters.len()).expect("short");
    [&length.to_be_bytes()[..], &[0, 3, 0, minor], parameters.as_bytes()].concat()
}

/// A TLS ClientHello: the record header and enough behind it to be longer than any first read.
pub fn client_hello() -> Vec<u8> {
    let mut bytes = vec![0x16, 3, 1, 2, 0];
    bytes.extend((0..512).map(|place| place as u8));
    bytes
}

/// A CancelRequest of `length` bytes in all, with a key made of `key`.
pub fn cancel(length: u32, key: u8) -> Vec<u8> {
    let mut bytes = [length.to_be_bytes(), 80_877_102_u32.to_be_bytes(), 4711_u32.to_be_bytes()].concat();
    bytes.resize(length as usize, key);
    bytes
}

/// An ErrorResponse.
pub fn error(sqlstate: &str, message: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{sqlstate}\0M{message}\0\0");
    let length = u32::try_from(4 + fields.len()).expect("short");
    [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()
}

/// What an ErrorResponse says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub sqlstate: String,
    pub message: String,
}

/// Takes `bytes` for one ErrorResponse and nothing else.
pub fn refused(bytes: &[u8]) -> Refused {
    assert_eq!(bytes.first(), Some(&b'E'), "not an ErrorResponse: {:?}", String::from_utf8_lossy(bytes));
    let length = u32::from_be_bytes(bytes[1..5].try_into().expect("a length"));
    assert_eq!(length as usize, bytes.len() - 1, "the length of the ErrorResponse");
    let field = |tag: u8| {
        let mut fields = bytes[5..].split(|&byte| byte == 0);
        let found = fields.find_map(|field| field.strip_prefix(&[tag])).unwrap_or_default();
        String::from_utf8(found.to_vec()).expect("text")
    };
    assert_eq!((field(b'S'), field(b'V')), ("FATAL".to_owned(), "FATAL".to_owned()));
    Refused { sqlstate: field(b'C'), message: field(b'M') }
}
