#pragma once

#include <slirp/libslirp.h>

namespace minivm::virtio {

/// The functions of libslirp, which is loaded when the first user network is made: its own libraries would be a large
/// part of every start.
struct SlirpLibrary {
  decltype(&::slirp_new) create = nullptr;
  decltype(&::slirp_cleanup) destroy = nullptr;
  decltype(&::slirp_pollfds_fill) fill_polls = nullptr;
  decltype(&::slirp_pollfds_poll) handle_polls = nullptr;
  decltype(&::slirp_input) input = nullptr;
  decltype(&::slirp_add_hostxfwd) forward = nullptr;

  /// Throws std::runtime_error that says what to install.
  static const SlirpLibrary& get();
};

}  // namespace minivm::virtio
