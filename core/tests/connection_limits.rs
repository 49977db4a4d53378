//! Goal: every limit, every deadline and every malformed frame ends in the close that is stated, and in
//! nothing else.
//! Method: scripts as in `connection_pair.rs`, with the small limits of `connection_script::options`.
#![allow(clippy::unwrap_used, reason = "a test's helper may panic")]

mod connection_script;

use std::sync::Arc;

use connection_script::{check, check_with, options};
use fidibus_core::config::Limits;
use fidibus_core::connection::ConnectionOptions;

const OPEN: &str = "
    > auth notes t
    < #1 authenticate 0 notes token \"t\"
    = #1 granted rw
    < send notes authenticated read-write
    < #2 join 0 notes ReadWrite
    = #2 joined
    ";

#[test]
fn messages_before_authentication_are_counted_over_the_connection() {
    check(
        "
        > auth a t
        < #1 authenticate 0 a token \"t\"
        > update a 1
        > update b 2
        > update a 3
        > update a 4
        > update a 5
        > update b 6
        < leave 0 4205 Reset Connection
        < close 4205 Reset Connection
        > update a 7
        = #1 granted rw
        ! closed
        ",
    );
    // Those of a session that is let in, denied or closed count no longer.
    check(
        "
        > auth a t
        < #1 authenticate 0 a token \"t\"
        > update a 1
        > update a 2
        > update a 3
        > update a 4
        = #1 denied no 4403
        < send a denied no
        > update b 1
        > update b 2
        > update b 3
        > update b 4
        > update b 5
        > close b
        > update c 1
        > update c 2
        > update c 3
        > update c 4
        > auth c t
        < #2 authenticate 2 c token \"t\"
        = #2 granted rw
        < send c authenticated read-write
        < #3 join 2 c ReadWrite
        > update d 1
        > update d 2
        > update d 3
        > update d 4
        > update d 5
        > update d 6
        < leave 2 4205 Reset Connection
        < close 4205 Reset Connection
        ",
    );
}

#[test]
fn bytes_before_authentication_are_counted_over_the_connection() {
    // A frame `update a …` has 5 bytes beside its body; 100 are allowed.
    let body = "x".repeat(45);
    check(&format!("> update a {body}\n > update a {body}\n > update b \n < close 4205 Reset Connection"));
    check(&format!("> update a {body}\n > update b x{body}\n < close 4205 Reset Connection"));
}

#[test]
fn documents_that_wait_are_counted() {
    check(
        "
        > auth a t
        < #1 authenticate 0 a token \"t\"
        > auth b t
        < #2 authenticate 1 b token \"t\"
        > step1 c x
        # One that is gone makes room,
        > close c
        > step1 c y
        # and one that was let in.
        = #1 granted rw
        < send a authenticated read-write
        < #3 join 0 a ReadWrite
        > auth d t
        < #4 authenticate 4 d token \"t\"
        > auth e t
        < leave 4 4205 Reset Connection
        < leave 1 4205 Reset Connection
        < leave 0 4205 Reset Connection
        < close 4205 Reset Connection
        ",
    );
}

#[test]
fn sessions_of_a_connection_are_counted() {
    let mut script = String::new();
    for session in 0..6 {
        let (authenticate, join) = (2 * session + 1, 2 * session + 2);
        script += &format!(
            "
            > auth d{session} t
            < #{authenticate} authenticate {session} d{session} token \"t\"
            = #{authenticate} granted rw
            < send d{session} authenticated read-write
            < #{join} join {session} d{session} ReadWrite
            = #{join} joined
            "
        );
    }
    script += "
        > auth more t
        < send more denied permission-denied
        > step1 more a
        > update d3 b
        < deliver 3 update b
        > close d3
        < leave 3 1000 provider_initiated
        < send d3 close provider_initiated
        > auth more t
        < #13 authenticate 6 more token \"t\"
        ";
    check(&script);
}

#[test]
fn messages_that_wait_for_a_load_are_bounded() {
    // 400 bytes are allowed; each frame counts 9 bytes, its body, and 64 for its place: 3 × 102 + 94.
    let update = format!("> update notes {}\n", "x".repeat(29));
    let queued = format!("{}> update notes {}\n", update.repeat(3), "y".repeat(21));
    check(&format!(
        "
        > auth notes t
        < #1 authenticate 0 notes token \"t\"
        {update}
        = #1 granted rw
        < send notes authenticated read-write
        < #2 join 0 notes ReadWrite
        {update}{update}
        {update}
        < leave 0 4205 limit reached: session_queue_bytes_max
        < close 4205 limit reached: session_queue_bytes_max
        "
    ));
    // What was delivered counts no longer.
    let delivered = queued.replace("> update notes", "< deliver 0 update");
    check(&format!(
        "
        > auth notes t
        < #1 authenticate 0 notes token \"t\"
        = #1 granted rw
        < send notes authenticated read-write
        < #2 join 0 notes ReadWrite
        {queued}
        = #2 joined
        {delivered}
        > auth more t
        < #3 authenticate 1 more token \"t\"
        = #3 granted rw
        < send more authenticated read-write
        < #4 join 1 more ReadWrite
        {}
        = #4 joined
        {}
        ",
        queued.replace("notes", "more"),
        delivered.replace("deliver 0", "deliver 1")
    ));
}

#[test]
fn messages_that_wait_for_a_hook_are_bounded() {
    let update = format!("> update notes {}\n", "x".repeat(29));
    check_with(
        ConnectionOptions { admit: true, ..options() },
        &format!(
            "{OPEN}
            > update notes a
            < #3 admit 0 update a
            {}
            {update}
            < leave 0 4205 limit reached: session_queue_bytes_max
            < close 4205 limit reached: session_queue_bytes_max
            = #3 admitted update a
            ",
            update.repeat(3)
        ),
    );
}

#[test]
fn what_is_queued_must_fit_when_it_moves_to_the_other_limit() {
    let limits = Limits { session_queue_bytes_max: 80, ..(*options().limits).clone() };
    check_with(
        ConnectionOptions { limits: Arc::new(limits), ..options() },
        "
        > auth a t
        < #1 authenticate 0 a token \"t\"
        > update a 1
        > update a 2
        = #1 granted rw
        < send a authenticated read-write
        < leave 0 4205 limit reached: session_queue_bytes_max
        < close 4205 limit reached: session_queue_bytes_max
        ",
    );
}

#[test]
fn a_message_that_is_too_big_closes() {
    let body = "x".repeat(200);
    check(&format!(
        "{OPEN} > update notes {body}\n < leave 0 1009 Message Too Big\n < close 1009 Message Too Big"
    ));
}

#[test]
fn text_frames_close() {
    check("> text\n < close 1003 Text frames are not supported\n > auth a t");
    check(&format!(
        "{OPEN} > text
        < leave 0 1003 Text frames are not supported
        < close 1003 Text frames are not supported"
    ));
}

#[test]
fn what_cannot_be_read_closes_the_socket_before_authentication() {
    for frame in
        ["hex ff", "hex 05", "hex 02c328", "hex 00", "truncated notes", "untyped notes", "broadcast notes x"]
    {
        check(&format!("> {frame}\n < close 4401 Unauthorized"));
    }
    check(
        "
        > auth notes t
        < #1 authenticate 0 notes token \"t\"
        > truncated notes
        < leave 0 4401 Unauthorized
        < close 4401 Unauthorized
        ",
    );
    check(
        "
        > step1 ~ a
        < #1 authenticate 0 path token none y-websocket
        > truncated ~
        < leave 0 4401 Unauthorized
        < close 4401 Unauthorized
        ",
    );
}

#[test]
fn what_cannot_be_read_closes_an_open_session_only() {
    for frame in ["truncated notes", "untyped notes", "broadcast notes x", "truncated notes+x"] {
        check(&format!(
            "{OPEN}
            > auth other t
            < #3 authenticate 1 other token \"t\"
            > {frame}
            < leave 0 4205 Reset Connection
            < send notes close Reset Connection
            = #3 granted rw
            < send other authenticated read-write
            < #4 join 1 other ReadWrite
            "
        ));
    }
    // Whom it concerns cannot be read: the socket goes, but with a code after which all providers return.
    for frame in ["hex ff", "truncated other"] {
        check(&format!("{OPEN} > {frame}\n < leave 0 4205 Reset Connection\n < close 4205 Reset Connection"));
    }
    check(
        "
        > step1 ~ a
        < #1 authenticate 0 path token none y-websocket
        = #1 granted rw
        < #2 join 0 path ReadWrite
        > truncated ~
        = #2 joined
        < deliver 0 step1 a
        < leave 0 4205 Reset Connection
        < close 4205 Reset Connection
        ",
    );
}

#[test]
fn what_cannot_be_read_takes_its_place_in_the_queue() {
    check(
        "
        > auth notes t
        < #1 authenticate 0 notes token \"t\"
        = #1 granted rw
        < send notes authenticated read-write
        < #2 join 0 notes ReadWrite
        > update notes a
        > truncated notes
        > update notes b
        = #2 joined
        < deliver 0 update a
        < leave 0 4205 Reset Connection
        < send notes close Reset Connection
        ",
    );
}

#[test]
fn unknown_types_are_ignored() {
    check(&format!(
        "
        > unknown notes x
        {OPEN}
        > unknown notes x
        > unknown else x
        > update notes a
        < deliver 0 update a
        "
    ));
}

#[test]
fn names_that_are_none_are_refused_at_once() {
    let long = "n".repeat(150);
    check(
        "
        > auth - t
        < send - denied permission-denied
        > step1 - a
        > auth +x t
        < send +x denied permission-denied
        > auth notes t
        < #1 authenticate 0 notes token \"t\"
        ",
    );
    check(
        "> step1 - x\n < #1 authenticate 0 path token none y-websocket"
            .replace("step1 -", "step1 ~")
            .as_str(),
    );
    check("> hex 0000000100\n < close 4403 Forbidden");
    let limits = Limits { message_bytes_max: 10_000, ..(*options().limits).clone() };
    let roomy = || ConnectionOptions { limits: Arc::new(limits.clone()), ..options() };
    let name = long.repeat(7);
    check_with(roomy(), &format!("> auth {name} t\n < send {name} denied permission-denied"));
    // Too long to be worth an answer.
    check_with(roomy(), &format!("> auth {name}{name} t\n < close 4403 Forbidden"));
    check_with(roomy(), &format!("{OPEN} > auth {name}{name} t"));
}

#[test]
fn the_deadline_before_authentication_is_absolute() {
    check("@ 59.9 \n ! timeout \n @ 0.1 \n < close 4401 Unauthorized");
    check(
        "
        @ 30
        > auth notes wrong
        < #1 authenticate 0 notes token \"wrong\"
        = #1 denied no 4401
        < send notes denied no
        @ 29
        > auth notes t
        < #2 authenticate 1 notes token \"t\"
        @ 1
        < leave 1 4408 Connection Timeout
        < close 4408 Connection Timeout
        ",
    );
    // y-websocket takes 44xx for final.
    check(
        "
        > step1 ~ a
        < #1 authenticate 0 path token none y-websocket
        @ 60
        < leave 0 1013 Connection Timeout
        < close 1013 Connection Timeout
        ",
    );
}

#[test]
fn an_authenticated_connection_may_be_silent_for_the_time_out() {
    check(&format!(
        "
        @ 50
        {OPEN}
        @ 59
        > update notes a
        < deliver 0 update a
        @ 59
        # Also without a session, and whatever the frame is.
        > close notes
        < leave 0 1000 provider_initiated
        < send notes close provider_initiated
        @ 59
        > pong
        @ 59.9
        ! timeout
        @ 0.1
        < close 4408 Connection Timeout
        "
    ));
}

#[test]
fn silence_is_forgiven_while_nobody_reads() {
    check(&format!(
        "{OPEN} @ 59 \n ! unread \n @ 59 \n @ 1 \n < leave 0 4408 Connection Timeout\n < close 4408 Connection Timeout"
    ));
    // Not before authentication: that deadline is absolute.
    check("> step1 notes a\n @ 59 \n ! unread \n @ 1 \n < close 4408 Connection Timeout");
}
