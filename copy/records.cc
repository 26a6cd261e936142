#include "copy/records.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace minivm::copy {
namespace {

/// Less than this at the end of the buffer is no place to read a file to.
constexpr std::size_t least_data = 64 * 1024;

struct NoPayload {
  void encode(protocol::Writer&) const noexcept {}
};

}  // namespace

bool RecordWriter::put(wire::RecordType type) noexcept { return put(type, NoPayload{}); }

std::span<std::byte> RecordWriter::data_space() noexcept {
  if (!make_room(wire::RecordHeader::size + least_data)) return {};
  const auto space = buffer_.subspan(size_ + wire::RecordHeader::size);
  return space.first(std::min<std::size_t>(space.size(), wire::RecordHeader::max_payload));
}

void RecordWriter::finish(wire::RecordType type, std::size_t payload) noexcept {
  protocol::Writer header(buffer_.subspan(size_));
  wire::RecordHeader{static_cast<std::uint32_t>(payload), type}.encode(header);
  size_ += wire::RecordHeader::size + payload;
}

bool RecordWriter::make_room(std::size_t size) noexcept { return buffer_.size() - size_ >= size ? !gone_ : flush(); }

bool RecordWriter::flush() noexcept {
  for (std::size_t done = 0; done < size_ && !gone_;) {
    const ssize_t count = write(fd_, buffer_.data() + done, size_ - done);
    if (count > 0) done += static_cast<std::size_t>(count);
    gone_ = count < 0 && errno != EINTR;
  }
  size_ = 0;
  return !gone_;
}

std::optional<RecordReader::Record> RecordReader::next() noexcept {
  if (state_ != State::open || !fill(wire::RecordHeader::size)) return std::nullopt;
  const auto header = wire::RecordHeader::decode(protocol::Reader(buffer_.subspan(begin_, end_ - begin_)));
  if (!header || header->length > wire::RecordHeader::max_payload) {
    state_ = State::malformed;
    return std::nullopt;
  }
  if (!fill(wire::RecordHeader::size + header->length)) return std::nullopt;
  const Record record{header->type, buffer_.subspan(begin_ + wire::RecordHeader::size, header->length)};
  begin_ += wire::RecordHeader::size + header->length;
  return record;
}

/// Until `size` bytes are there.
bool RecordReader::fill(std::size_t size) noexcept {
  if (end_ - begin_ >= size) return true;
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  while (end_ < size) {
    const ssize_t count = read(fd_, buffer_.data() + end_, buffer_.size() - end_);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      state_ = count == 0 ? State::ended : State::failed;
      return false;
    }
    end_ += static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace minivm::copy
