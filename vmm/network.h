#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "devices/virtio/device.h"
#include "minivm/config.h"

namespace minivm {

/// The network device that `network` describes; its kind is not `none`. `loop` is the device's, and outlives it. Throws
/// when the host has no such network, or a published port is taken.
std::unique_ptr<virtio::VirtioDevice> make_network_device(const Network& network, const std::string& hostname,
                                                          EventLoop& loop);

/// What PID 1 sets up, in lists separated by commas.
struct GuestNetwork {
  std::string addresses;
  std::string gateways;
  std::string name_servers;
};
GuestNetwork guest_network(const Network& network);

}  // namespace minivm
