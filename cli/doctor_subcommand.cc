#include <CLI/CLI.hpp>

#include "cli/subcommand.h"

namespace minivm {
namespace {

class DoctorSubcommand final : public Subcommand {
 public:
  explicit DoctorSubcommand(CLI::App& command) {
    command.add_flag("--json", options_.json, "print the findings as JSON");
    command.add_flag("--quick", options_.quick, "only check KVM itself");
    command.add_option("--kernel,-k", options_.kernel, "the kernel to check")->type_name("FILE");
    command.footer("Exit code: 0 when minivm run works here, 1 when it would fail.\n");
  }

  Options result(WordsAfterMark) override { return std::move(options_); }

 private:
  DoctorOptions options_;
};

}  // namespace

std::unique_ptr<Subcommand> make_doctor_subcommand(CLI::App& command) {
  return std::make_unique<DoctorSubcommand>(command);
}

}  // namespace minivm
