//! One sentence per rule of PROTOCOLS.md section 1.2.7.

use super::*;

pub(super) fn jfr(kind: v10::AsyncProfilingStatus, content_size: i32) -> v10::AsyncProfilerData {
    let meta_data = v10::AsyncProfilerMetaData {
        service: "s".into(),
        service_instance: "i".into(),
        r#type: kind.into(),
        content_size,
        ..Default::default()
    };
    v10::AsyncProfilerData { meta_data: Some(meta_data), result: None }
}

#[test]
fn an_upload_is_told_to_go_on_then_filed_at_half_close() {
    let content = |bytes: usize| v10::AsyncProfilerData {
        meta_data: None,
        result: Some(v10::async_profiler_data::Result::Content(vec![0; bytes])),
    };
    let mut call = Call::of(ASYNC);
    let go_on = call.say(&jfr(v10::AsyncProfilingStatus::ProfilingSuccess, 10)).unwrap();
    assert_eq!(go_on.as_deref(), Some(&[0u8; 5][..]));
    assert_eq!(call.say(&content(10)), Ok(None));
    assert_eq!(call.end(End::Clean), (filed(&[("s/i", 2)]), 0));

    let mut call = Call::of(ASYNC);
    call.say(&jfr(v10::AsyncProfilingStatus::ProfilingSuccess, 10)).unwrap();
    assert_eq!(call.say(&content(11)), Err(Code::Unknown));
    for bytes in [0, 1] {
        assert_eq!(Call::of(ASYNC).say(&content(bytes)), Err(Code::Unknown), "there is no buffer to copy to");
    }
}

#[test]
fn pprof_content_before_metadata_is_passed_over() {
    let content = v10::PprofData { metadata: None, result: Some(v10::pprof_data::Result::Content(vec![1])) };
    let mut call = Call::of(PPROF);
    assert_eq!(call.say(&content), Ok(None));
    assert_eq!(call.end(End::Clean), (vec![], 1));
}

#[test]
fn only_the_first_metadata_of_an_upload_counts() {
    let mut call = Call::of(ASYNC);
    call.say(&jfr(v10::AsyncProfilingStatus::ProfilingSuccess, 0)).unwrap();
    assert_eq!(call.say(&jfr(v10::AsyncProfilingStatus::ProfilingSuccess, i32::MAX)), Ok(None));
    assert_eq!(call.say(&jfr(v10::AsyncProfilingStatus::ProfilingSuccess, 1)), Ok(None));
    assert_eq!(call.end(End::Clean), (filed(&[("s/i", 3)]), 0));
    assert_eq!(Call::of(ASYNC).say(&jfr(v10::AsyncProfilingStatus::ProfilingSuccess, -1)), Err(Code::Unknown));
}

#[test]
fn an_async_profiler_error_report_gets_no_response_but_a_pprof_one_does() {
    assert_eq!(Call::of(ASYNC).say(&jfr(v10::AsyncProfilingStatus::ExecutionTaskError, 0)), Ok(None));
    let metadata = v10::PprofMetaData { r#type: 1, ..Default::default() };
    let mut call = Call::of(PPROF);
    let reply = call.say(&v10::PprofData { metadata: Some(metadata), result: None }).unwrap();
    assert_eq!(reply.as_deref(), Some(&[0, 0, 0, 0, 2, 8, 1][..]));
    // The report itself is no file that a reset could cut short.
    assert_eq!(call.end(End::Broken), (filed(&[("", 1)]), 0));
}

#[test]
fn an_upload_over_the_limit_is_told_so() {
    let reply = Call::of(ASYNC).say(&jfr(v10::AsyncProfilingStatus::ProfilingSuccess, i32::MAX)).unwrap();
    assert_eq!(reply.as_deref(), Some(&[0, 0, 0, 0, 2, 8, 2][..]));
}

#[test]
fn a_broken_upload_is_dropped() {
    let mut call = Call::of(ASYNC);
    call.say(&jfr(v10::AsyncProfilingStatus::ProfilingSuccess, 10)).unwrap();
    assert_eq!(call.end(End::Broken), (vec![], 1));
}
