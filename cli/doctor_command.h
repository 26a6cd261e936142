#pragma once

#include "cli/options.h"

namespace minivm {

/// `minivm doctor`: 0 when `minivm run` works on this host, else 1.
int doctor_command(const DoctorOptions& options);

}  // namespace minivm
