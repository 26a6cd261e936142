// The receiver of a copy, on any bytes: whatever they say, nothing outside of the destination changes.
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/fd.h"
#include "copy/receiver.h"

namespace {

namespace wire = minivm::protocol::copy;

/// Short records are likelier to be met by chance: {type, length, payload} with a byte for each of the first two.
void expand(std::span<const std::uint8_t> bytes, const minivm::UniqueFd& stream) {
  const auto put = [&](const void* data, std::size_t size) {
    if (::write(stream.get(), data, size) != static_cast<ssize_t>(size)) __builtin_trap();
  };
  while (bytes.size() >= 2) {
    const std::size_t length = std::min<std::size_t>(bytes[1], bytes.size() - 2);
    const std::uint8_t header[wire::RecordHeader::size] = {
        static_cast<std::uint8_t>(length), 0, 0, 0, bytes[0], 0, 0, 0};
    put(header, sizeof header);
    put(bytes.data() + 2, length);
    bytes = bytes.subspan(2 + length);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const std::string base = "/dev/shm/minivm-copy-fuzz-" + std::to_string(::getpid());
  static const bool made = std::filesystem::create_directories(base + "/outside");
  static_cast<void>(made);
  const std::string destination = base + "/in";
  std::filesystem::create_directory(destination);
  const minivm::UniqueFd stream(::memfd_create("stream", MFD_CLOEXEC));
  if ((data[0] & 1) != 0) {
    expand({data + 1, size - 1}, stream);
  } else if (::write(stream.get(), data + 1, size - 1) != static_cast<ssize_t>(size - 1)) {
    __builtin_trap();
  }
  ::lseek(stream.get(), 0, SEEK_SET);
  minivm::copy::receive(stream.get(), destination.c_str(), {}, "");
  ::chmod(destination.c_str(), 0700);
  std::filesystem::remove_all(destination);
  std::size_t entries = 0;
  for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator(base)) ++entries;
  if (entries != 1 || !std::filesystem::is_empty(base + "/outside")) __builtin_trap();
  return 0;
}
