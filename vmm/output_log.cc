#include "vmm/output_log.h"

#include <array>

#include "vmm/log_file.h"

namespace minivm {

void append_output(LogFile& log, std::uint32_t stream, std::span<const std::byte> bytes) {
  std::array<std::byte, OutputRecord::size + OutputRecord::max_length> buffer;
  protocol::Writer writer(buffer);
  OutputRecord{static_cast<std::uint32_t>(bytes.size()), stream}.encode(writer);
  writer.put_raw(bytes);
  if (writer.ok()) log.append(writer.written());
}

std::size_t for_each_output(std::span<const std::byte> bytes,
                            const std::function<void(std::uint32_t stream, std::span<const std::byte>)>& visit) {
  std::span<const std::byte> rest = bytes;
  while (rest.size() >= OutputRecord::size) {
    const OutputRecord record = OutputRecord::decode(protocol::Reader(rest));
    if (record.length > OutputRecord::max_length) return bytes.size();
    if (rest.size() < OutputRecord::size + record.length) break;
    visit(record.stream, rest.subspan(OutputRecord::size, record.length));
    rest = rest.subspan(OutputRecord::size + record.length);
  }
  return bytes.size() - rest.size();
}

}  // namespace minivm
