#include "cli/measured_boot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/clock.h"
#include "base/fd.h"

namespace minivm {
namespace {

constexpr int exec_failed = 127;

std::int64_t nanoseconds(const timeval& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + std::int64_t{time.tv_usec} * 1000;
}

/// In the new process: says when it calls exec.
[[noreturn]] void become(std::vector<char*>& words, int clock_pipe, int null) {
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  const std::int64_t now = monotonic_ns();
  if (::write(clock_pipe, &now, sizeof now) == sizeof now) ::execv("/proc/self/exe", words.data());
  ::_exit(exec_failed);
}

Timing read_timing(const nlohmann::ordered_json& record) {
  const auto stamp = [&record](const char* name) {
    return record.at(name).is_null() ? 0 : record.at(name).get<std::int64_t>();
  };
  return {.building = stamp("building_ns"),
          .vm_created = stamp("vm_created_ns"),
          .kernel_mapped = stamp("kernel_mapped_ns"),
          .first_run = stamp("first_run_ns"),
          .init_started = stamp("init_started_ns"),
          .modules_loaded = stamp("modules_loaded_ns"),
          .root_mounted = stamp("root_mounted_ns"),
          .guest_ready = stamp("guest_ready_ns"),
          .ready = stamp("ready_ns"),
          .exec_started = stamp("exec_started_ns"),
          .exec_ended = stamp("exec_ended_ns"),
          .ended = stamp("ended_ns"),
          .guest_error = stamp("guest_error_ns")};
}

nlohmann::ordered_json read_record(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) throw_errno("bench: stat of the record");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  if (::pread(fd, text.data(), text.size(), 0) != status.st_size) throw_errno("bench: reading the record");
  return nlohmann::ordered_json::parse(text, nullptr, false);
}

}  // namespace

MeasuredBoot measure_boot(const std::vector<std::string>& arguments) {
  // The two descriptors that the new process keeps: where the record goes, and stderr.
  const UniqueFd record(::memfd_create("record", 0));
  if (!record) throw_errno("bench: memfd_create");
  const UniqueFd null = open_file("/dev/null", O_RDWR);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("bench: pipe");
  const UniqueFd clock_reader(ends[0]);
  UniqueFd clock_writer(ends[1]);
  std::vector<std::string> command{"minivm", "run", "--json", fmt::format("/proc/self/fd/{}", record.get())};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<char*> words;
  words.reserve(command.size() + 1);
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);

  const pid_t child = ::fork();
  if (child < 0) throw_errno("bench: fork");
  if (child == 0) become(words, clock_writer.get(), null.get());
  clock_writer.reset();
  int status = 0;
  rusage usage{};
  while (::wait4(child, &status, 0, &usage) < 0) {
    if (errno != EINTR) throw_errno("bench: wait");
  }
  MeasuredBoot boot;
  boot.gone = monotonic_ns();
  boot.cpu = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
  boot.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (::read(clock_reader.get(), &boot.exec, sizeof boot.exec) != sizeof boot.exec) throw_errno("bench: exec");
  const nlohmann::ordered_json json = read_record(record.get());
  if (!json.is_object()) throw std::runtime_error(fmt::format("bench: a boot ended with exit code {}", boot.exit_code));
  const nlohmann::ordered_json& timing = json.at("timing");
  boot.main = timing.at("main_ns").get<std::int64_t>();
  boot.options = timing.at("options_ns").get<std::int64_t>();
  boot.timing = read_timing(timing);
  return boot;
}

}  // namespace minivm
