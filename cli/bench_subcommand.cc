#include <CLI/CLI.hpp>
#include <stdexcept>

#include "cli/subcommand.h"

namespace minivm {
namespace {

constexpr std::uint32_t most_boots = 100'000;

class BenchSubcommand final : public Subcommand {
 public:
  explicit BenchSubcommand(CLI::App& command) : command_(command) {
    command.add_option("WHAT", what_, "boot: machines, one after the other, each in a process of its own")->required();
    command.add_option("-n", options_.count, "how many count, after one that warms the caches (default 20)")
        ->check(CLI::Range(1U, most_boots).description(""))
        ->type_name("N");
    command.add_flag("--json", options_.json, "print for programs, in nanoseconds");
    // Left to `run`, which knows them.
    command.allow_extras();
    command.footer(
        "Every other option is one of minivm run, and means the machine to boot; the command is `true` unless told.\n"
        "  minivm bench boot -n 50 --kernel bzImage --memory 256M -- /bin/true\n"
        "Prints minimum, median and 99th percentile of each stage. Exit code: 0, or that of the boot that failed.\n");
  }

  Options result(WordsAfterMark after_mark) override {
    if (what_ != "boot") throw std::invalid_argument(what_ + ": not boot, which is all that bench measures");
    options_.run_arguments = command_.remaining();
    options_.run_arguments.emplace_back("--");
    if (after_mark.words.empty()) after_mark.words.emplace_back("true");
    options_.run_arguments.insert(options_.run_arguments.end(), after_mark.words.begin(), after_mark.words.end());
    return std::move(options_);
  }

 private:
  CLI::App& command_;
  std::string what_;
  BenchOptions options_;
};

}  // namespace

std::unique_ptr<Subcommand> make_bench_subcommand(CLI::App& command) {
  return std::make_unique<BenchSubcommand>(command);
}

}  // namespace minivm
