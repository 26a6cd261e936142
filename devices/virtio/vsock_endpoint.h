#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace minivm::virtio {

/// The host end's handle on its connection. Valid from `attached` until `closed` is called or until `close` returns.
/// Event-loop thread only. Each call only takes note, and the work follows from the event loop: so they may be made
/// anywhere, inside the endpoint's own functions too.
class VsockStream {
 public:
  /// There may be something for `fill` again, after it said that there was nothing.
  virtual void resume_fill() noexcept = 0;
  /// `receive` can take bytes again, after it took less than all.
  virtual void resume_receive() noexcept = 0;
  /// The host end takes no more bytes: the guest's writers get EPIPE, and what is on its way is dropped.
  virtual void end_receive() noexcept = 0;
  /// The host end goes away: what the guest sends from now on meets a RST. `closed` is not called.
  virtual void close() noexcept = 0;

 protected:
  ~VsockStream() = default;
};

/// The host end of one vsock connection: a file descriptor of the caller, or the control channel. Bytes move between
/// it and guest memory directly. Event-loop thread only; never called from inside one of its own calls to the stream.
class VsockEndpoint {
 public:
  struct Filled {
    std::size_t size = 0;  // bytes stored; 0 and not `end`: nothing now, resume_fill will tell
    bool end = false;      // no more bytes will ever come
  };

  virtual ~VsockEndpoint() = default;

  /// The connection is established.
  virtual void attached(VsockStream& stream) noexcept = 0;

  /// Guest to host: takes bytes from the front of `data` and says how many. What is not taken stays with the
  /// connection, which offers it again after resume_receive; the guest's credit follows what was taken.
  virtual std::size_t receive(std::span<const iovec> data) noexcept = 0;
  /// The guest sends no more, and all it sent was received.
  virtual void receive_ended() noexcept = 0;

  /// Host to guest: stores bytes into the guest's buffers.
  virtual Filled fill(std::span<const iovec> space) noexcept = 0;
  /// The guest reads no more: nothing needs to be filled from now on.
  virtual void fill_ended() noexcept = 0;

  /// The connection is gone (both directions ended, RST from the guest, or device reset); the stream handle is dead.
  /// `clean`: both directions had ended in order.
  virtual void closed(bool clean) noexcept = 0;
};

}  // namespace minivm::virtio
