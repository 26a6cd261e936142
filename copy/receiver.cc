#include "copy/receiver.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <new>
#include <utility>

namespace minivm::copy {
namespace {

using wire::Begin;
using wire::Entry;
using wire::RecordType;

constexpr std::string_view malformed = "the other end sent what makes no sense";
constexpr std::string_view cut_off = "the other end stopped before all was sent";

/// Opens a directory that is really one, and not a link to one.
Fd open_below(int parent, const char* name, int flags = O_RDONLY) noexcept {
  return Fd(openat(parent, name, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

timespec modified(const Entry& entry) noexcept {
  timespec time{};
  time.tv_sec = static_cast<time_t>(entry.modified_s);
  time.tv_nsec = static_cast<long>(entry.modified_ns);
  return time;
}

bool is_entry(RecordType type) noexcept {
  return type == RecordType::directory || type == RecordType::file || type == RecordType::symlink ||
         type == RecordType::link;
}

}  // namespace

Receiver::Receiver(int input, ReceiverTrust trust, std::string_view side) noexcept
    : trust_(trust), report_(side), buffer_(RecordReader::buffer_size), records_(input, buffer_.bytes()) {}

int Receiver::receive(const char* destination) noexcept {
  destination_ = destination;
  if (!path_.push(destination)) return refuse(ENAMETOOLONG), 1;
  if (!buffer_) return refuse(ENOMEM), 1;
  while (!done_) {
    const auto record = records_.next();
    if (!record) {
      switch (records_.state()) {
        case RecordReader::State::failed:
          return refuse(errno), 1;
        case RecordReader::State::malformed:
          return refuse(malformed), 1;
        default:
          // A sender that never began has said why.
          return begun_ ? static_cast<int>(!refuse(cut_off)) : 1;
      }
    }
    if (!take(*record)) return 1;
  }
  return 0;
}

bool Receiver::take(const RecordReader::Record& record) noexcept {
  if (!begun_) {
    const auto begin = Begin::decode(protocol::Reader(record.payload));
    if (record.type != RecordType::begin || !begin || begin->version != wire::version) return refuse(malformed);
    begun_ = true;
    contents_ = (begin->flags & Begin::contents) != 0;
    return true;
  }
  if (file_) {
    switch (record.type) {
      case RecordType::data:
        return write_data(record.payload);
      case RecordType::hole:
        return skip_hole(record.payload);
      case RecordType::file_end:
        return end_file();
      default:
        return refuse(malformed);
    }
  }
  if (is_entry(record.type)) return take_entry(record.type, record.payload);
  if (record.type == RecordType::leave && depth_ > 0) return leave();
  done_ = record.type == RecordType::end && depth_ == 0;
  return done_ || refuse(malformed);
}

bool Receiver::take_entry(RecordType type, std::span<const std::byte> payload) noexcept {
  const auto entry = Entry::decode(protocol::Reader(payload));
  if (!entry || entry->modified_ns >= 1'000'000'000) return refuse(malformed);
  if (depth_ == 0) return find_top(type, *entry);
  if (!wire::is_name(entry->name)) return refuse(malformed);
  const std::size_t above = path_.size();
  if (!path_.push(entry->name)) return refuse(ENAMETOOLONG);
  const std::size_t before = depth_;
  if (!make(type, *entry, {levels_[depth_ - 1].directory.get(), Name(entry->name).c_str()})) return false;
  if (depth_ > before) {
    levels_[before].path_size = above;
  } else if (!file_) {
    path_.cut(above);
  }
  return true;
}

/// docker's rules, of docker-container-cp(1).
bool Receiver::find_top(RecordType type, const Entry& entry) noexcept {
  if (std::exchange(has_top_, true) || type == RecordType::link) return refuse(malformed);
  if (!entry.name.empty() && !wire::is_name(entry.name)) return refuse(malformed);
  struct stat status {};
  const bool exists = stat(destination_.data(), &status) == 0;
  if (!exists && errno != ENOENT) return refuse(errno);
  const bool is_directory = type == RecordType::directory;
  if (exists && S_ISDIR(status.st_mode)) {
    top_parent_ = Fd(open(destination_.data(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!top_parent_) return refuse(errno);
    if (is_directory && (contents_ || entry.name.empty())) return enter(std::move(top_parent_), entry);
    if (entry.name.empty()) return refuse(malformed);
    if (!path_.push(entry.name)) return refuse(ENAMETOOLONG);
    top_name_ = Name(entry.name);
  } else {
    if (exists && is_directory) return refuse("a directory does not go where a file is");
    if (!exists && !is_directory && destination_.ends_with('/')) return refuse(ENOENT);
    if (!open_parent(destination_)) return false;
  }
  return make(type, entry, {top_parent_.get(), top_name_.c_str()});
}

/// What `destination` is to be, in the directory where it is to be.
bool Receiver::open_parent(std::string_view destination) noexcept {
  while (destination.size() > 1 && destination.ends_with('/')) destination.remove_suffix(1);
  const std::size_t above = destination.rfind('/') + 1;  // npos + 1: none
  std::string_view name = destination;
  name.remove_prefix(above);
  if (!wire::is_name(name)) return refuse(ENOENT);
  top_name_ = Name(name);
  const Text<PATH_MAX> parent(above == 0 ? std::string_view(".") : std::string_view(destination.data(), above));
  top_parent_ = Fd(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return top_parent_ ? true : refuse(errno);
}

bool Receiver::make(RecordType type, const Entry& entry, Place place) noexcept {
  switch (type) {
    case RecordType::directory:
      return make_directory(entry, place);
    case RecordType::file:
      return make_file(entry, place);
    case RecordType::symlink:
      return make_symlink(entry, place);
    default:
      return make_link(entry, place);
  }
}

bool Receiver::make_directory(const Entry& entry, Place place) noexcept {
  // Its own permissions come when all is in it.
  if (mkdirat(place.parent, place.name, 0700) != 0 && errno != EEXIST) return refuse(errno);
  Fd directory = open_below(place.parent, place.name);
  if (!directory) return refuse(errno == ELOOP ? ENOTDIR : errno);
  return enter(std::move(directory), entry);
}

bool Receiver::enter(Fd directory, const Entry& entry) noexcept {
  if (depth_ == max_depth) return refuse("directories are nested too deep");
  Level& level = levels_[depth_++];
  level.directory = std::move(directory);
  level.path_size = path_.size();
  level.attributes = entry;
  level.attributes.name = level.attributes.target = {};
  return true;
}

bool Receiver::leave() noexcept {
  Level& level = levels_[--depth_];
  const Fd directory = std::move(level.directory);
  if (!set_attributes(directory.get(), level.attributes)) return refuse(errno);
  path_.cut(level.path_size);
  return true;
}

bool Receiver::make_file(const Entry& entry, Place place) noexcept {
  if (!clear(place)) return false;
  file_ = Fd(openat(place.parent, place.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file_) return refuse(errno);
  file_attributes_ = entry;
  file_attributes_.name = file_attributes_.target = {};
  file_size_ = 0;
  ends_in_hole_ = false;
  return true;
}

bool Receiver::write_data(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() > INT64_MAX - file_size_) return refuse(EFBIG);
  ends_in_hole_ = ends_in_hole_ && bytes.empty();
  while (!bytes.empty()) {
    const ssize_t count = pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(file_size_));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return refuse(count < 0 ? errno : ENOSPC);
    file_size_ += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

bool Receiver::skip_hole(std::span<const std::byte> payload) noexcept {
  const auto hole = wire::Hole::decode(protocol::Reader(payload));
  if (!hole) return refuse(malformed);
  if (hole->size > INT64_MAX - file_size_) return refuse(EFBIG);
  file_size_ += hole->size;
  ends_in_hole_ = true;
  return true;
}

bool Receiver::end_file() noexcept {
  const Fd file = std::move(file_);
  if (ends_in_hole_ && ftruncate(file.get(), static_cast<off_t>(file_size_)) != 0) return refuse(errno);
  if (!set_attributes(file.get(), file_attributes_)) return refuse(errno);
  if (depth_ > 0) path_.cut(path_.view().rfind('/'));
  return true;
}

bool Receiver::make_symlink(const Entry& entry, Place place) noexcept {
  if (entry.target.empty() || entry.target.size() >= PATH_MAX || entry.target.find('\0') != entry.target.npos) {
    return refuse(malformed);
  }
  if (!clear(place)) return false;
  const Text<PATH_MAX> target(entry.target);
  if (symlinkat(target.c_str(), place.parent, place.name) != 0) return refuse(errno);
  if (trust_.owners && fchownat(place.parent, place.name, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return refuse(errno);
  }
  const timespec times[] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, modified(entry)};
  // Not every file system has times for a link.
  static_cast<void>(utimensat(place.parent, place.name, times, AT_SYMLINK_NOFOLLOW));
  return true;
}

/// Walks from the topmost directory, so a target cannot lie outside of it.
bool Receiver::make_link(const Entry& entry, Place place) noexcept {
  std::string_view rest = entry.target;
  Fd directory(fcntl(levels_[0].directory.get(), F_DUPFD_CLOEXEC, 0));
  for (;;) {
    const bool last = rest.find('/') == rest.npos;
    const std::string_view component = take_field(rest, '/');
    if (!wire::is_name(component)) return refuse(malformed);
    const Name name(component);
    if (last) {
      if (!clear(place)) return false;
      return linkat(directory.get(), name.c_str(), place.parent, place.name, 0) == 0 || refuse(errno);
    }
    directory = open_below(directory.get(), name.c_str(), O_PATH);
    if (!directory) return refuse(errno);
  }
}

mode_t Receiver::permissions(const Entry& entry) const noexcept {
  const mode_t mode = entry.mode & 07777;
  return trust_.set_id ? mode : mode & ~mode_t{S_ISUID | S_ISGID};
}

/// The owner first: a change of it takes the set-ID bits away.
bool Receiver::set_attributes(int fd, const Entry& entry) const noexcept {
  const timespec times[] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, modified(entry)};
  if (trust_.owners && fchown(fd, entry.uid, entry.gid) != 0) return false;
  return fchmod(fd, permissions(entry)) == 0 && futimens(fd, times) == 0;
}

/// What is there by this name goes, and not what a link there leads to. A directory stays, and is told.
bool Receiver::clear(Place place) noexcept {
  return unlinkat(place.parent, place.name, 0) == 0 || errno == ENOENT || refuse(errno);
}

bool Receiver::refuse(int error) noexcept {
  report_(path_.view(), error);
  return false;
}

bool Receiver::refuse(std::string_view reason) noexcept {
  report_(path_.view(), reason);
  return false;
}

int receive(int input, const char* destination, ReceiverTrust trust, std::string_view side) noexcept {
  Mapping memory(sizeof(Receiver));
  if (!memory) return Report(side)(destination, ENOMEM), 1;
  auto* const receiver = new (memory.bytes().data()) Receiver(input, trust, side);
  const int code = receiver->receive(destination);
  receiver->~Receiver();
  return code;
}

}  // namespace minivm::copy
