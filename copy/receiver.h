#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "copy/path.h"
#include "copy/records.h"
#include "copy/report.h"
#include "freestanding/fd.h"
#include "freestanding/mapping.h"
#include "freestanding/text.h"

namespace minivm::copy {

/// How far the receiver believes the sender.
struct ReceiverTrust {
  bool owners = false;  // makes the sender's owners the files' own; needs root
  bool set_id = false;  // keeps the set-user-ID and set-group-ID bits
};

/// Makes the files that a sender tells of, below one destination and nowhere else: names are single components, and
/// directories are opened one by one without following links. The sender may say anything. The first thing that cannot
/// be made ends it. No heap, no exceptions; large, so it lives in memory of its own.
class Receiver {
 public:
  Receiver(int input, ReceiverTrust trust, std::string_view side) noexcept;

  /// An exit code: 0, or 1. With docker's rules for where things go: into a directory that is there, else to the very
  /// name `destination`, whose directory must be there.
  int receive(const char* destination) noexcept;

 private:
  static constexpr std::size_t max_depth = 256;

  /// What is left to do for a directory when it is left.
  struct Level {
    Fd directory;
    std::size_t path_size = 0;
    wire::Entry attributes;  // without its strings
  };
  /// Where an entry goes.
  struct Place {
    int parent = -1;
    const char* name = "";
  };
  using Name = Text<256>;

  bool take(const RecordReader::Record& record) noexcept;
  bool take_entry(wire::RecordType type, std::span<const std::byte> payload) noexcept;
  bool find_top(wire::RecordType type, const wire::Entry& entry) noexcept;
  bool open_parent(std::string_view destination) noexcept;
  bool make(wire::RecordType type, const wire::Entry& entry, Place place) noexcept;
  bool make_directory(const wire::Entry& entry, Place place) noexcept;
  bool enter(Fd directory, const wire::Entry& entry) noexcept;
  bool leave() noexcept;
  bool make_file(const wire::Entry& entry, Place place) noexcept;
  bool write_data(std::span<const std::byte> bytes) noexcept;
  bool skip_hole(std::span<const std::byte> payload) noexcept;
  bool end_file() noexcept;
  bool make_symlink(const wire::Entry& entry, Place place) noexcept;
  bool make_link(const wire::Entry& entry, Place place) noexcept;
  bool set_attributes(int fd, const wire::Entry& entry) const noexcept;
  mode_t permissions(const wire::Entry& entry) const noexcept;
  bool clear(Place place) noexcept;
  bool refuse(int error) noexcept;
  bool refuse(std::string_view reason) noexcept;

  ReceiverTrust trust_;
  Report report_;
  Mapping buffer_;
  RecordReader records_;
  std::string_view destination_;
  WalkedPath path_;  // of the entry at hand, for reports
  bool begun_ = false;
  bool contents_ = false;  // the sender means what is in its topmost directory
  bool has_top_ = false;
  bool done_ = false;
  Fd top_parent_;
  Name top_name_;
  Fd file_;  // the one whose content is coming
  wire::Entry file_attributes_;
  std::uint64_t file_size_ = 0;
  bool ends_in_hole_ = false;
  std::size_t depth_ = 0;  // levels in use
  std::array<Level, max_depth> levels_;
};

/// Receives from `input` to `destination`; see Receiver.
int receive(int input, const char* destination, ReceiverTrust trust, std::string_view side) noexcept;

}  // namespace minivm::copy
