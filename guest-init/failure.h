#pragma once

#include <optional>

#include "freestanding/text.h"

namespace minivm::guest {

/// Why the guest cannot become ready, in the words that the host shows: "step object: strerror(error)".
struct Failure {
  const char* step = "";
  Text<256> object;
  int error = 0;  // errno, 0 when there is none
};

/// Nothing when a step of the boot went well.
using Outcome = std::optional<Failure>;

}  // namespace minivm::guest
