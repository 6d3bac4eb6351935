//! Frames: a size, a header and a message.
//!
//! Encoding includes the four bytes of the size. Decoding works on frames from which a driver has taken them off.

use alloc::borrow::Cow;

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, Writer};
use crate::messages::{AnyRequest, AnyResponse};
use crate::rope::Rope;

/// Room for the small messages, which are most.
const FIRST_CAPACITY: usize = 240;

/// The header of a request (versions 1 and 2).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RequestHeader<'a> {
    /// The key of the API. It may be one that nobody knows: see [`RequestHeader::key`].
    pub api_key: i16,
    /// The version of the request.
    pub api_version: i16,
    /// What the response will repeat.
    pub correlation_id: i32,
    /// Who asks.
    pub client_id: Option<Cow<'a, str>>,
}

impl<'a> RequestHeader<'a> {
    /// The key of the API, if it is one of Kafka's.
    pub fn key(&self) -> Option<ApiKey> {
        ApiKey::from_i16(self.api_key)
    }

    /// Decodes the header and leaves the reader at the request. The header of an unknown API is read as if it were
    /// not flexible; that of an unsupported version as the latest one, as Kafka does, so that it can be answered.
    pub fn decode(r: &mut Reader<'a>) -> Result<RequestHeader<'a>, DecodeError> {
        r.begin("RequestHeader");
        let api_key = r.i16()?;
        let api_version = r.i16()?;
        let correlation_id = r.i32()?;
        // Never compact: a broker must be able to read it whatever the version.
        let client_id = r.string_opt(false)?;
        if ApiKey::from_i16(api_key).is_some_and(|key| key.is_flexible(api_version)) {
            r.skip_tags()?;
        }
        Ok(RequestHeader { api_key, api_version, correlation_id, client_id })
    }
}

/// The header of a response (versions 0 and 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ResponseHeader {
    /// That of the request.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Decodes the header of the response to a request of `key` at `version`.
    pub fn decode(r: &mut Reader<'_>, key: ApiKey, version: i16) -> Result<ResponseHeader, DecodeError> {
        r.begin("ResponseHeader");
        let correlation_id = r.i32()?;
        if key.response_header_version(version) > 0 {
            r.skip_tags()?;
        }
        Ok(ResponseHeader { correlation_id })
    }
}

fn begin_request(key: ApiKey, version: i16, correlation_id: i32, client_id: Option<&str>) -> Writer {
    let mut w = Writer::with_capacity(FIRST_CAPACITY);
    w.begin_frame();
    w.i16(key as i16);
    w.i16(version);
    w.i32(correlation_id);
    w.string_opt(false, client_id);
    if key.is_flexible(version) {
        w.u8(0);
    }
    w
}

fn begin_response(key: ApiKey, version: i16, correlation_id: i32) -> Writer {
    let mut w = Writer::with_capacity(FIRST_CAPACITY);
    w.begin_frame();
    w.i32(correlation_id);
    if key.response_header_version(version) > 0 {
        w.u8(0);
    }
    w
}

/// A request as a frame, with its size before it.
pub fn encode_request<'a, R: Request<'a>>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
) -> Result<Rope, EncodeError> {
    let mut w = begin_request(R::KEY, version, correlation_id, client_id);
    request.encode(&mut w, version)?;
    w.finish_frame()
}

/// The response to a request of `key` at `version` as a frame, with its size before it.
pub fn encode_response<'a, M: Message<'a>>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Rope, EncodeError> {
    encode_response_at(key, version, version, correlation_id, response)
}

/// A response whose body has another version than its header: ApiVersions answers an unsupported version so, with a
/// body of version 0.
pub fn encode_response_at<'a, M: Message<'a>>(
    key: ApiKey,
    header_version: i16,
    body_version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Rope, EncodeError> {
    let mut w = begin_response(key, header_version, correlation_id);
    response.encode(&mut w, body_version)?;
    w.finish_frame()
}

/// Any request as a frame, with its size before it.
pub fn encode_any_request(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &AnyRequest<'_>,
) -> Result<Rope, EncodeError> {
    let mut w = begin_request(request.key(), version, correlation_id, client_id);
    request.encode(&mut w, version)?;
    w.finish_frame()
}

/// Any response as a frame, with its size before it.
pub fn encode_any_response(
    version: i16,
    correlation_id: i32,
    response: &AnyResponse<'_>,
) -> Result<Rope, EncodeError> {
    let mut w = begin_response(response.key(), version, correlation_id);
    response.encode(&mut w, version)?;
    w.finish_frame()
}

/// Decodes a whole response: its header, its body, and nothing after it.
pub fn decode_response<'a, R: Request<'a>>(
    frame: &'a Rope,
    version: i16,
) -> Result<(ResponseHeader, R::Response<'a>), DecodeError> {
    let mut r = Reader::new(frame);
    let header = ResponseHeader::decode(&mut r, R::KEY, version)?;
    let body = R::Response::decode(&mut r, version)?;
    r.finish()?;
    Ok((header, body))
}
