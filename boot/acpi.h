#pragma once

#include <cstddef>
#include <vector>

#include "boot/platform.h"

namespace minivm::boot {

/// The ACPI tables that describe `platform`: RSDP, XSDT, hardware-reduced FADT, MADT and DSDT (ACPI 6.4, 5.2). Made to
/// lie at layout::acpi, with the RSDP as its first bytes. Throws std::runtime_error when `platform` needs more than
/// layout::acpi_size.
std::vector<std::byte> build_acpi(const Platform& platform);

}  // namespace minivm::boot
