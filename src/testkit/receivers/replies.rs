//! What a good answer says: empty, or about exactly what was asked, so that an answer given to another caller is noticed.

use bytes::{Bytes, BytesMut};

use super::reading::elements;
use crate::message::field::put_bytes;
use crate::message::run::Run;
use crate::testkit::attribution::digest;
use crate::testkit::methods::Reply;

/// The framed message that answers `request`; for a stream the request is empty.
pub(super) fn to(request: &[u8], reply: Reply) -> Option<Bytes> {
    let mut body = BytesMut::new();
    match reply {
        Reply::Receiver => return None,
        Reply::Empty => {}
        Reply::Serving => body.extend_from_slice(&[0x08, 1]),
        // Commands.commands=1, Command.command=1, .args=2, KeyStringValuePair.key=1, .value=2.
        Reply::Command(name) => {
            let (mut command, mut asked) = (BytesMut::new(), BytesMut::new());
            put_bytes(&mut asked, 1, b"asked");
            put_bytes(&mut asked, 2, hex(request).as_bytes());
            put_bytes(&mut command, 1, name.as_bytes());
            put_bytes(&mut command, 2, &asked);
            put_bytes(&mut body, 1, &command);
        }
        // EBPFReportProcessDownstream.processes=1, EBPFProcessDownstream.processId=1.
        Reply::Processes => {
            for process in elements(request, 1).map_while(Result::ok) {
                let mut known = BytesMut::new();
                put_bytes(&mut known, 1, hex(process).as_bytes());
                put_bytes(&mut body, 1, &known);
            }
        }
    }
    Some(Run::of_body(&body).bytes().clone())
}

fn hex(asked: &[u8]) -> String {
    format!("{:016x}", digest([asked]))
}
