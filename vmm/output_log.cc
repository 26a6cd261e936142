#include "vmm/output_log.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "vmm/log_file.h"

namespace minivm {

void append_output(LogFile& log, std::uint32_t stream, std::span<const std::byte> bytes) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  std::array<std::byte, OutputRecord::size + OutputRecord::max_length> buffer;
  protocol::Writer writer(buffer);
  OutputRecord{static_cast<std::uint32_t>(bytes.size()), stream,
               static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count())}
      .encode(writer);
  writer.put_raw(bytes);
  if (writer.ok()) log.append(writer.written());
}

std::size_t for_each_output(std::span<const std::byte> bytes,
                            const std::function<void(const OutputRecord&, std::span<const std::byte>)>& visit) {
  std::span<const std::byte> rest = bytes;
  while (rest.size() >= OutputRecord::size) {
    protocol::Reader reader(rest);
    OutputRecord record;
    record.length = reader.get<std::uint32_t>();
    record.stream = reader.get<std::uint32_t>();
    record.time_ns = reader.get<std::uint64_t>();
    if (record.length > OutputRecord::max_length) return bytes.size();
    if (rest.size() < OutputRecord::size + record.length) break;
    visit(record, rest.subspan(OutputRecord::size, record.length));
    rest = rest.subspan(OutputRecord::size + record.length);
  }
  return bytes.size() - rest.size();
}

}  // namespace minivm
