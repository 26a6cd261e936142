#pragma once

#include <functional>
#include <memory>

#include "base/event_loop.h"
#include "base/host_file.h"  // how a shared descriptor is read and written without blocking
#include "devices/virtio/vsock_endpoint.h"

namespace minivm::virtio {

/// The caller's file descriptors as the host end of a connection: bytes from `source` go to the guest, bytes from the
/// guest go to `sink`; either may be absent. Works with pipes, sockets, terminals, regular files and devices, and never
/// changes the flags of an open file description that others may share. No byte is buffered here.
/// Two descriptors of one socket belong to this connection alone: the guest's half-closes are passed on with
/// shutdown(2). `done` is called once, on the loop's thread, when nothing will be written to `sink` any more (all the
/// guest's bytes are out, or the sink is broken); `error` is 0, or the errno that broke it: ECONNRESET when the guest
/// dropped the connection before it had ended its stream. The process ignores SIGPIPE.
std::shared_ptr<VsockEndpoint> make_fd_endpoint(EventLoop& loop, HostFile source, HostFile sink,
                                                std::move_only_function<void(int error)> done);

}  // namespace minivm::virtio
