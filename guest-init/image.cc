#include "guest-init/image.h"

extern "C" {
extern const std::byte minivm_init_image_begin[];
extern const std::byte minivm_init_image_end[];
}

namespace minivm {

std::span<const std::byte> init_image() noexcept { return {minivm_init_image_begin, minivm_init_image_end}; }

}  // namespace minivm
