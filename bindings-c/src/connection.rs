//! One socket whose bytes the host moves.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fidibus_core::error::CloseReason;
use fidibus_core::hub::HostConnection;

use crate::border::{quietly, run};
use crate::callback::{self, Env, fidibus_finalizer};
use crate::handle::{self, arc_handle, output};
use crate::handshake::{self, fidibus_handshake};
use crate::hub::fidibus_hub;
use crate::reply::close_reason;
use crate::status::fidibus_status;
use crate::text::{self, fidibus_buffer};

/// One connection. The host keeps the socket: it hands in the binary messages that arrive, and sends the
/// frames that it takes out, each as one binary WebSocket message. Frames of one connection are to be
/// handed in and taken out in order, so by one thread at a time each.
pub struct fidibus_connection {
    _private: [u8; 0],
}

arc_handle!(fidibus_connection(Connection));

/// Tells the host to look: frames wait, there is space again after FIDIBUS_STATUS_FULL, or the connection
/// ended. It may be called on any thread, at any time, also when there is nothing. It must not block: it
/// holds up documents and acks. Best it only signals the host's own loop (eventfd, pipe, condition variable).
pub type fidibus_wake = Option<unsafe extern "C" fn(env: *mut c_void)>;

/// A connection of the engine with the wake callback of the host.
pub(crate) struct Connection {
    host: HostConnection,
    wake: Arc<WakeSlot>,
}

struct WakeCallback {
    function: unsafe extern "C" fn(*mut c_void),
    env: Env,
}

#[derive(Default)]
struct WakeSlot(Mutex<Option<Arc<WakeCallback>>>);

impl WakeSlot {
    /// The former callback ends with what is returned, so not under the lock.
    fn replace(&self, callback: Option<Arc<WakeCallback>>) -> Option<Arc<WakeCallback>> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), callback)
    }

    fn ring(&self) {
        let callback = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(callback) = callback {
            // SAFETY: by C's promise it may be called with its env, which lives as long as the callback.
            callback::inside(|| unsafe { (callback.function)(callback.env.pointer()) });
        }
    }
}

/// Opens a connection for a socket that the host has accepted. Free it with fidibus_connection_free.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_connect(
    hub: *const fidibus_hub,
    handshake: *const fidibus_handshake,
    connection: *mut *mut fidibus_connection,
) -> fidibus_status {
    run(|| {
        let engine = handle::share_arc(hub)?;
        let (handshake, out) = (handshake::share(handshake)?, output(connection)?);
        let wake = Arc::new(WakeSlot::default());
        let bell = Arc::clone(&wake);
        let host = engine.hub()?.connect(handshake, Arc::new(move || bell.ring()));
        *out = handle::give_arc(Arc::new(Connection { host, wake }));
        Ok(())
    })
}

/// Frees a connection, and ends it where it is open: the peer is gone. A wake that is under way on another
/// thread may still end after this returns; its finalizer is called after it.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_connection_free(connection: *mut fidibus_connection) {
    quietly((), || {
        if let Some(connection) = handle::take_arc(connection) {
            drop(connection.wake.replace(None));
            connection.host.close(CloseReason::GONE);
        }
    });
}

/// Sets who is woken, in place of who was before, and wakes at once, since frames may wait already. NULL:
/// nobody, and the host polls when it likes; the env is then only given to the finalizer.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_connection_set_wake(
    connection: *const fidibus_connection,
    wake: fidibus_wake,
    env: *mut c_void,
    finalizer: fidibus_finalizer,
) -> fidibus_status {
    run(|| {
        let connection = handle::share_arc(connection)?;
        let env = Env::new(env, finalizer);
        let callback = wake.map(|function| Arc::new(WakeCallback { function, env }));
        drop(connection.wake.replace(callback));
        connection.wake.ring();
        Ok(())
    })
}

/// Hands in one binary message of the peer. The bytes are copied. Anything may be in it: what breaks the
/// protocol ends the connection.
///
/// FIDIBUS_STATUS_FULL: too much waits; stop reading the socket, and try again when woken.
/// FIDIBUS_STATUS_TOO_LARGE: larger than message_bytes_max; the connection ends. FIDIBUS_STATUS_CLOSED.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_connection_receive(
    connection: *const fidibus_connection,
    frame: *const u8,
    len: usize,
) -> fidibus_status {
    run(|| {
        let connection = handle::share_arc(connection)?;
        let frame = Bytes::copy_from_slice(text::read_bytes(frame, len)?);
        Ok(connection.host.receive(frame)?)
    })
}

/// Tells that the peer sent a text message, which ends the connection (1003).
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_connection_receive_text(connection: *const fidibus_connection) -> fidibus_status {
    run(|| Ok(handle::share_arc(connection)?.host.receive_text()?))
}

/// Takes the next frame for the peer; free it with fidibus_buffer_free. After a wake take frames until there
/// is none: only then is the host woken again. Who takes none is conflated at outbox_bytes_max, and closed
/// after stall_max_ms.
///
/// FIDIBUS_STATUS_EMPTY: none for now. FIDIBUS_STATUS_CLOSED: none, and none will come.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_connection_poll_frame(
    connection: *const fidibus_connection,
    frame: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (connection, out) = (handle::share_arc(connection)?, output(frame)?);
        // Looked at first: a connection that closes in between may have left a frame.
        let closed = connection.host.close_reason().is_some();
        match connection.host.poll_frame() {
            Some(bytes) => *out = bytes.into(),
            None if closed => return Err(fidibus_status::Closed.into()),
            None => return Err(fidibus_status::Empty.into()),
        }
        Ok(())
    })
}

/// Ends a connection with a close code and a reason (NULL: none): 1001 where the peer is gone, or what the peer
/// is closed with. What was received is still handled; fidibus_connection_close_reason tells when it is over.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_connection_close(
    connection: *const fidibus_connection,
    code: u16,
    reason: *const c_char,
) -> fidibus_status {
    run(|| {
        handle::share_arc(connection)?.host.close(close_reason(code, reason)?);
        Ok(())
    })
}

/// Why the connection ended: the close code and reason for the peer's socket; free the reason with
/// fidibus_buffer_free (NULL: not wanted). FIDIBUS_STATUS_EMPTY: it is open.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_connection_close_reason(
    connection: *const fidibus_connection,
    code: *mut u16,
    reason: *mut fidibus_buffer,
) -> fidibus_status {
    run(|| {
        let (connection, code) = (handle::share_arc(connection)?, output(code)?);
        let close = connection.host.close_reason().ok_or(fidibus_status::Empty)?;
        *code = close.code;
        if !reason.is_null() {
            *output(reason)? = close.reason.clone().into_owned().into();
        }
        Ok(())
    })
}
