//! Goal: a socket that behaves passes through every row of the table in `connection/session.rs`.
//! Method: scripted clients against the machine under virtual time; see `connection_script/mod.rs`.
#![allow(clippy::unwrap_used, reason = "a test's helper may panic")]

mod connection_script;

use connection_script::{check, check_with, options};
use fidibus_core::connection::ConnectionOptions;
use fidibus_core::protocol::Dialect;

fn admitting() -> ConnectionOptions {
    ConnectionOptions { admit: true, ..options() }
}

#[test]
fn a_provider_is_let_in_and_its_messages_arrive_in_order() {
    check(
        "
        > auth notes secret 4.8.0
        < #1 authenticate 0 notes token \"secret\" version 4.8.0
        > step1 notes a
        > awareness notes b
        = #1 granted rw
        < send notes authenticated read-write
        < #2 join 0 notes ReadWrite
        > update notes c
        = #2 joined
        < deliver 0 step1 a
        < deliver 0 awareness b
        < deliver 0 update c
        > step2 notes d
        < deliver 0 step2 d
        > query notes
        < deliver 0 query
        > stateless notes hello there
        < deliver 0 stateless hello there
        ",
    );
}

#[test]
fn messages_before_auth_wait_for_it() {
    check(
        "
        > step1 notes a
        > update notes b
        > auth notes secret
        < #1 authenticate 0 notes token \"secret\"
        = #1 granted ro
        < send notes authenticated readonly
        < #2 join 0 notes ReadOnly
        = #2 joined
        < deliver 0 step1 a
        < deliver 0 update b
        ",
    );
}

#[test]
fn a_provider_without_a_token_waits_unless_it_is_allowed_in() {
    check("> step1 notes a\n @ 59 \n @ 1 \n < close 4408 Connection Timeout");
    check_with(
        ConnectionOptions { token_optional: true, ..options() },
        "
        > step1 notes a
        < #1 authenticate 0 notes token none
        > awareness notes b
        = #1 granted rw
        < send notes authenticated read-write
        < #2 join 0 notes ReadWrite
        = #2 joined
        < deliver 0 step1 a
        < deliver 0 awareness b
        # With a token as ever.
        > auth other secret
        < #3 authenticate 1 other token \"secret\"
        # Who sends tokens is not taken for one who has none.
        > step1 third c
        > auth third secret
        < #4 authenticate 2 third token \"secret\"
        ",
    );
    check_with(
        ConnectionOptions { token_optional: true, ..options() },
        "
        > step1 notes a
        < #1 authenticate 0 notes token none
        = #1 denied who-are-you 4401
        < send notes denied who-are-you
        # Asked once: what else it sends waits for a token.
        > awareness notes b
        > auth notes secret
        < #2 authenticate 1 notes token \"secret\"
        ",
    );
}

#[test]
fn documents_are_multiplexed() {
    check(
        "
        > auth a one
        < #1 authenticate 0 a token \"one\"
        > auth b two
        < #2 authenticate 1 b token \"two\"
        > step1 a a1
        > step1 b b1
        = #2 granted rw
        < send b authenticated read-write
        < #3 join 1 b ReadWrite
        > auth c three
        < #4 authenticate 2 c token \"three\"
        = #3 joined
        < deliver 1 step1 b1
        > update b b2
        < deliver 1 update b2
        > update a a2
        = #4 denied no 4403
        < send c denied no
        = #1 granted ro
        < send a authenticated readonly
        < #5 join 0 a ReadOnly
        = #5 joined
        < deliver 0 step1 a1
        < deliver 0 update a2
        > close b
        < leave 1 1000 provider_initiated
        < send b close provider_initiated
        > update a a3
        < deliver 0 update a3
        ",
    );
}

#[test]
fn session_aware_providers_share_a_socket_and_a_document() {
    check(
        "
        > auth n+x one
        < #1 authenticate 0 n+x token \"one\"
        > auth n+y two
        < #2 authenticate 1 n+y token \"two\"
        = #1 granted rw
        < send n+x authenticated read-write
        < #3 join 0 n+x ReadWrite
        = #2 granted rw
        < send n+y authenticated read-write
        < #4 join 1 n+y ReadWrite
        = #3 joined
        = #4 joined
        > update n+y b
        < deliver 1 update b
        > update n+x a
        < deliver 0 update a
        > close n+x
        < leave 0 1000 provider_initiated
        < send n+x close provider_initiated
        > update n+y c
        < deliver 1 update c
        ",
    );
}

/// `ClientConnection.ts` 603–606; but not for Auth and CLOSE.
#[test]
fn an_unknown_session_id_falls_back_to_the_plain_session() {
    check(
        "
        > auth n one
        < #1 authenticate 0 n token \"one\"
        # Not yet: nobody was let in.
        > update n+x early
        = #1 granted rw
        < send n authenticated read-write
        < #2 join 0 n ReadWrite
        = #2 joined
        > close n+x
        > update n+x a
        < deliver 0 update a
        > update n+ b
        < deliver 0 update b
        > close n+x
        > auth n+x two
        < #3 authenticate 2 n+x token \"two\"
        > update n+x c
        = #3 denied no 4403
        < send n+x denied no
        > update n d
        < deliver 0 update d
        ",
    );
}

#[test]
fn a_denied_provider_may_try_again_on_its_socket() {
    check(
        "
        > auth notes wrong
        < #1 authenticate 0 notes token \"wrong\"
        > step1 notes a
        = #1 denied who-are-you 4401
        < send notes denied who-are-you
        > auth notes right
        < #2 authenticate 1 notes token \"right\"
        > step1 notes b
        # Too late, and for nobody.
        = #1 granted rw
        = #2 granted rw
        < send notes authenticated read-write
        < #3 join 1 notes ReadWrite
        = #3 joined
        < deliver 1 step1 b
        ",
    );
}

#[test]
fn a_join_can_be_refused() {
    check(
        "
        > auth notes t
        < #1 authenticate 0 notes token \"t\"
        = #1 granted rw
        < send notes authenticated read-write
        < #2 join 0 notes ReadWrite
        > update notes a
        = #2 denied permission-denied 4403
        < leave 0 4403 permission-denied
        < send notes denied permission-denied
        > auth notes t
        < #3 authenticate 1 notes token \"t\"
        ",
    );
}

#[test]
fn a_provider_can_detach_and_attach_again() {
    let open_again = "
        > auth notes t
        < #3 authenticate 1 notes token \"t\"
        = #3 granted rw
        < send notes authenticated read-write
        < #4 join 1 notes ReadWrite
        = #4 joined
        > update notes b
        < deliver 1 update b
        ";
    let open = "
        > auth notes t
        < #1 authenticate 0 notes token \"t\"
        = #1 granted rw
        < send notes authenticated read-write
        < #2 join 0 notes ReadWrite
        ";
    check(&format!(
        "{open}
        = #2 joined
        > close notes
        < leave 0 1000 provider_initiated
        < send notes close provider_initiated
        {open_again}"
    ));
    // Even before the first join is through: nothing of what was said in between is lost.
    check(&format!(
        "{open}
        > update notes a
        > close notes
        > auth notes u
        > step1 notes c
        = #2 joined
        < deliver 0 update a
        < leave 0 1000 provider_initiated
        < send notes close provider_initiated
        < #3 authenticate 1 notes token \"u\"
        = #3 granted rw
        < send notes authenticated read-write
        < #4 join 1 notes ReadWrite
        = #4 joined
        < deliver 1 step1 c
        "
    ));
}

#[test]
fn close_without_a_session_is_nothing() {
    check(
        "
        > close notes
        # One that never asked to be let in is forgotten.
        > step1 notes a
        > close notes
        > auth notes t
        < #1 authenticate 1 notes token \"t\"
        = #1 granted rw
        < send notes authenticated read-write
        < #2 join 1 notes ReadWrite
        = #2 joined
        ",
    );
}

const OPEN: &str = "
    > auth notes t
    < #1 authenticate 0 notes token \"t\"
    = #1 granted rw
    < send notes authenticated read-write
    < #2 join 0 notes ReadWrite
    = #2 joined
    ";

#[test]
fn hooks_see_one_message_of_a_session_at_a_time() {
    check_with(
        admitting(),
        &format!(
            "{OPEN}
            > update notes a
            < #3 admit 0 update a
            > update notes b
            > stateless notes c
            > query notes
            # A hook may rewrite,
            = #3 admitted update A
            < deliver 0 update A
            < #4 admit 0 update b
            # swallow,
            = #4 dropped
            < #5 admit 0 stateless c
            # or refuse.
            = #5 rejected 4403 not here
            < leave 0 4403 not here
            < send notes close not here
            "
        ),
    );
}

#[test]
fn hooks_of_one_session_do_not_hold_up_another() {
    check_with(
        admitting(),
        "
        > auth a t
        < #1 authenticate 0 a token \"t\"
        > auth b t
        < #2 authenticate 1 b token \"t\"
        > update a a1
        > update a a2
        = #1 granted rw
        < send a authenticated read-write
        < #3 join 0 a ReadWrite
        = #2 granted rw
        < send b authenticated read-write
        < #4 join 1 b ReadWrite
        = #3 joined
        < #5 admit 0 update a1
        = #4 joined
        > update b b1
        < #6 admit 1 update b1
        = #6 admitted update b1
        < deliver 1 update b1
        > update b b2
        < #7 admit 1 update b2
        = #5 admitted update a1
        < deliver 0 update a1
        < #8 admit 0 update a2
        ",
    );
}

#[test]
fn close_waits_for_the_messages_before_it() {
    check_with(
        admitting(),
        &format!(
            "{OPEN}
            > update notes a
            < #3 admit 0 update a
            > update notes b
            > close notes
            > auth notes u
            = #3 admitted update a
            < deliver 0 update a
            < #4 admit 0 update b
            = #4 admitted update b
            < deliver 0 update b
            < leave 0 1000 provider_initiated
            < send notes close provider_initiated
            < #5 authenticate 1 notes token \"u\"
            "
        ),
    );
}

#[test]
fn a_fresh_token_is_passed_on_without_holding_anything_up() {
    check(&format!(
        "{OPEN}
        > auth notes u
        < #3 token 0 \"u\"
        > update notes a
        < deliver 0 update a
        # One is out at a time; of those that come meanwhile the last follows.
        > auth notes v
        > auth notes w
        = #3 synced
        < #4 token 0 \"w\"
        = #4 synced
        > auth notes x
        < #5 token 0 \"x\"
        = #5 rejected 4401 Unauthorized
        < leave 0 4401 Unauthorized
        < send notes close Unauthorized
        "
    ));
    check_with(
        admitting(),
        &format!(
            "{OPEN}
            > update notes a
            < #3 admit 0 update a
            > auth notes u
            > update notes b
            = #3 admitted update a
            < deliver 0 update a
            < #4 token 0 \"u\"
            < #5 admit 0 update b
            "
        ),
    );
}

#[test]
fn a_fresh_token_keeps_its_place_among_the_messages() {
    check(
        "
        > auth notes t
        < #1 authenticate 0 notes token \"t\"
        = #1 granted rw
        < send notes authenticated read-write
        < #2 join 0 notes ReadWrite
        > update notes a
        > auth notes u
        > update notes b
        = #2 joined
        < deliver 0 update a
        < #3 token 0 \"u\"
        < deliver 0 update b
        ",
    );
    check(
        "
        > auth notes t
        < #1 authenticate 0 notes token \"t\"
        = #1 granted rw
        < send notes authenticated read-write
        < #2 join 0 notes ReadWrite
        > auth notes u
        > update notes b
        = #2 joined
        < #3 token 0 \"u\"
        < deliver 0 update b
        ",
    );
}

#[test]
fn access_can_change_and_the_client_is_told() {
    check(&format!(
        "{OPEN}
        ! access 0 ro
        < send notes authenticated readonly
        ! access 0 ro
        ! access 0 rw
        < send notes authenticated read-write
        ! access 5 ro
        "
    ));
}

#[test]
fn the_server_can_end_one_session() {
    check(&format!(
        "{OPEN}
        ! end 0 4205 Reset Connection
        < leave 0 4205 Reset Connection
        < send notes close Reset Connection
        ! end 0 4205 Reset Connection
        > auth notes t
        < #3 authenticate 1 notes token \"t\"
        ! end 1 1012 Service Restart
        < leave 1 1012 Service Restart
        < send notes close Service Restart
        = #3 granted rw
        "
    ));
}

#[test]
fn pings_are_answered() {
    check("> pong\n > ping\n < send pong");
}

#[test]
fn a_y_websocket_peer_gets_the_document_of_its_path() {
    check(
        "
        > step1 ~ a
        < #1 authenticate 0 path token none y-websocket
        > awareness ~ b
        = #1 granted rw
        < #2 join 0 path ReadWrite
        > update ~ c
        = #2 joined
        < deliver 0 step1 a
        < deliver 0 awareness b
        < deliver 0 update c
        > query ~
        < deliver 0 query
        > step2 ~ d
        < deliver 0 step2 d
        # What its dialect does not know is passed over, and nothing of ours is sent to it.
        > auth ~ x
        > stateless ~ x
        > unknown ~ x
        > close ~
        ! access 0 ro
        ! end 0 4205 Reset Connection
        < leave 0 4205 Reset Connection
        < close 4205 Reset Connection
        ",
    );
}

#[test]
fn a_y_websocket_peer_that_is_refused_is_closed() {
    check(
        "
        > step1 ~ a
        < #1 authenticate 0 path token none y-websocket
        = #1 denied who-are-you 4401
        < send ~ denied who-are-you
        < close 4401 who-are-you
        ",
    );
    check(
        "
        > step1 ~ a
        < #1 authenticate 0 path token none y-websocket
        = #1 granted rw
        < #2 join 0 path ReadWrite
        = #2 denied no 4403
        < leave 0 4403 no
        < send ~ denied no
        < close 4403 no
        ",
    );
    check_with(
        ConnectionOptions { path_document: None, ..options() },
        "
        > step1 ~ a
        < send ~ denied the URL names no document
        < close 4403 Forbidden
        ",
    );
}

#[test]
fn the_dialect_can_be_fixed() {
    check_with(
        ConnectionOptions { dialect: Some(Dialect::YWebsocket), ..options() },
        "> awareness ~ a\n < #1 authenticate 0 path token none y-websocket",
    );
    check_with(
        ConnectionOptions { dialect: Some(Dialect::Hocuspocus), ..options() },
        // Sync step 1 of y-websocket, read as a message to the empty name.
        "> hex 00000100\n > auth notes t\n < #1 authenticate 0 notes token \"t\"",
    );
}

#[test]
fn a_socket_that_ends_takes_its_sessions_along() {
    check(&format!(
        "{OPEN}
        > auth other t
        < #3 authenticate 1 other token \"t\"
        > step1 third a
        ! closed
        < leave 1 1001
        < leave 0 1001
        = #3 granted rw
        > update notes a
        ! end 0 4205 x
        @ 100
        "
    ));
}

#[test]
fn what_was_sent_before_the_end_can_still_arrive() {
    check_with(
        admitting(),
        &format!(
            "{OPEN}
            > update notes a
            < #3 admit 0 update a
            > update notes b
            > auth joins t
            < #4 authenticate 1 joins token \"t\"
            = #4 granted rw
            < send joins authenticated read-write
            < #5 join 1 joins ReadWrite
            > update joins c
            > auth asks t
            < #6 authenticate 2 asks token \"t\"
            > update asks d
            ! ended
            < leave 2 1001
            > update notes too late
            @ 100
            = #6 granted rw
            = #3 admitted update a
            < deliver 0 update a
            < #7 admit 0 update b
            = #5 joined
            < #8 admit 1 update c
            = #7 admitted update b
            < deliver 0 update b
            < leave 0 1001
            = #8 rejected 4403 no
            < leave 1 4403 no
            ! closed
            "
        ),
    );
}
