#include "devices/virtio/vsock_link.h"

#include <utility>

#include "devices/virtio/vsock.h"

namespace minivm::virtio {

VsockLink::VsockLink(Vsock& owner, std::uint64_t its_key, VsockConnection its_connection,
                     std::shared_ptr<VsockEndpoint> its_endpoint) noexcept
    : device(owner), key(its_key), connection(std::move(its_connection)), endpoint(std::move(its_endpoint)) {}

VsockLink::~VsockLink() {
  if (answer_timer != 0) device.loop_.cancel(answer_timer);
}

// A handle that is dead already is left alone in all of these.

void VsockLink::resume_fill() noexcept {
  if (!endpoint) return;
  may_fill = true;
  if (connection.send_credit() == 0) return;
  device.fill_.add(*this);
  device.schedule();
}

void VsockLink::resume_receive() noexcept {
  if (endpoint) device.attend_later(*this);
}

void VsockLink::end_receive() noexcept {
  if (!endpoint) return;
  connection.end_receive();
  device.attend_later(*this);
}

void VsockLink::close() noexcept {
  if (!endpoint) return;
  // The caller is a function of this very endpoint, in most cases.
  device.let_go_.push_back(std::exchange(endpoint, nullptr));
  connection.reset();
  device.attend_later(*this);
}

}  // namespace minivm::virtio
