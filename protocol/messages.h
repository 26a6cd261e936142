#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "protocol/frame.h"

namespace minivm::protocol {

/// Payloads of control frames. Strings are views into the buffer that was decoded. Each `decode` returns nothing when
/// a field is cut off; fields that a later version appends are ignored.

struct Empty {
  void encode(Writer&) const noexcept {}
};

struct Hello {
  std::uint32_t version = protocol::version;
  std::uint64_t init_started_ns = 0;  // CLOCK_BOOTTIME at PID 1's first instruction
  std::uint64_t sent_ns = 0;          // CLOCK_BOOTTIME when this was sent

  void encode(Writer& writer) const noexcept {
    writer.put(version);
    writer.put(init_started_ns);
    writer.put(sent_ns);
  }
  static std::optional<Hello> decode(Reader reader) noexcept {
    Hello message{reader.get<std::uint32_t>(), reader.get<std::uint64_t>(), reader.get<std::uint64_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

struct Welcome {
  std::uint32_t version = protocol::version;
  std::uint64_t realtime_ns = 0;  // the host's CLOCK_REALTIME when this was sent

  void encode(Writer& writer) const noexcept {
    writer.put(version);
    writer.put(realtime_ns);
  }
  static std::optional<Welcome> decode(Reader reader) noexcept {
    Welcome message{reader.get<std::uint32_t>(), reader.get<std::uint64_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

struct Ready {
  std::uint64_t init_started_ns = 0;  // all CLOCK_BOOTTIME
  std::uint64_t modules_loaded_ns = 0;
  std::uint64_t root_mounted_ns = 0;
  std::uint64_t ready_ns = 0;
  std::uint64_t welcomed_ns = 0;  // when Welcome had arrived

  void encode(Writer& writer) const noexcept {
    writer.put(init_started_ns);
    writer.put(modules_loaded_ns);
    writer.put(root_mounted_ns);
    writer.put(ready_ns);
    writer.put(welcomed_ns);
  }
  static std::optional<Ready> decode(Reader reader) noexcept {
    Ready message{reader.get<std::uint64_t>(), reader.get<std::uint64_t>(), reader.get<std::uint64_t>(),
                  reader.get<std::uint64_t>(), reader.get<std::uint64_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

/// The guest cannot go on: "step object: strerror(error)".
struct Failed {
  std::string_view step;    // for instance "mount"
  std::string_view object;  // for instance "/dev/vda (tried ext4, squashfs)"
  std::uint32_t error = 0;  // errno, 0 when there is none

  void encode(Writer& writer) const noexcept {
    writer.put_string(step);
    writer.put_string(object);
    writer.put(error);
  }
  static std::optional<Failed> decode(Reader reader) noexcept {
    Failed message{reader.get_string(), reader.get_string(), reader.get<std::uint32_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

/// A list of strings inside a message: a count, then the strings. Decoded lazily, so that the guest needs no heap.
class StringList {
 public:
  StringList() noexcept : reader_({}) {}
  StringList(std::uint32_t count, Reader reader) noexcept : count_(count), reader_(reader) {}

  std::uint32_t count() const noexcept { return count_; }

  template <typename Visitor>
  void for_each(Visitor&& visit) const {
    Reader reader = reader_;
    for (std::uint32_t i = 0; i < count_; ++i) visit(reader.get_string());
  }

 private:
  std::uint32_t count_ = 0;
  Reader reader_;
};

/// A resource limit of setrlimit(2), by Linux's numbers on x86-64; all ones are "unlimited".
struct ResourceLimit {
  static constexpr std::uint32_t resources = 16;  // RLIM_NLIMITS
  static constexpr std::uint64_t unlimited = ~std::uint64_t{0};

  std::uint32_t resource = 0;
  std::uint64_t soft = unlimited;
  std::uint64_t hard = unlimited;

  void encode(Writer& writer) const noexcept {
    writer.put(resource);
    writer.put(soft);
    writer.put(hard);
  }
  static ResourceLimit take(Reader& reader) noexcept {
    return {reader.get<std::uint32_t>(), reader.get<std::uint64_t>(), reader.get<std::uint64_t>()};
  }
};

/// At most one limit for each resource.
class ResourceLimits {
 public:
  /// False when there is no room for one more.
  bool add(const ResourceLimit& limit) noexcept {
    if (count_ == limits_.size()) return false;
    limits_[count_++] = limit;
    return true;
  }
  std::span<const ResourceLimit> list() const noexcept { return std::span(limits_).first(count_); }

 private:
  std::array<ResourceLimit, ResourceLimit::resources> limits_{};
  std::size_t count_ = 0;
};

/// Starts a program. The host sends `argv` and `env` through `encode_exec`, since the two lists vary in length.
struct Exec {
  static constexpr std::uint32_t tty = 1U << 0;       // one pty; stdin_port is its only stream, both ways
  static constexpr std::uint32_t upload = 1U << 1;    // program_size bytes of ELF come through program_port
  static constexpr std::uint32_t built_in = 1U << 2;  // argv[0] names a program that PID 1 brings along; see built_in.h
  static constexpr std::uint32_t default_umask = 022;

  std::uint32_t flags = 0;
  std::uint32_t stdin_port = 0;
  std::uint32_t stdout_port = 0;
  std::uint32_t stderr_port = 0;
  std::uint32_t program_port = 0;
  std::uint64_t program_size = 0;
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
  std::string_view user;       // "name|uid[:group|gid]", empty: root
  std::string_view directory;  // empty: the user's home when it is there, else /
  StringList argv;             // argv[0] is also the program to look up in the request's PATH
  StringList env;              // "K=V"; the guest adds PATH, HOME, USER, LOGNAME, SHELL, TERM where they are missing
  std::uint32_t umask = default_umask;
  ResourceLimits limits;
  std::string_view interpreter;  // of an upload: the loader that it names (PT_INTERP); empty: none
  StringList libraries;          // of an upload: those that it needs (DT_NEEDED); empty where the guest cannot judge

  static std::optional<Exec> decode(Reader reader) noexcept {
    Exec message;
    message.flags = reader.get<std::uint32_t>();
    message.stdin_port = reader.get<std::uint32_t>();
    message.stdout_port = reader.get<std::uint32_t>();
    message.stderr_port = reader.get<std::uint32_t>();
    message.program_port = reader.get<std::uint32_t>();
    message.program_size = reader.get<std::uint64_t>();
    message.rows = reader.get<std::uint16_t>();
    message.columns = reader.get<std::uint16_t>();
    message.user = reader.get_string();
    message.directory = reader.get_string();
    message.argv = take_list(reader);
    message.env = take_list(reader);
    // An encoder that knows nothing of what follows ends here.
    if (reader.left() > 0) take_appended(reader, message);
    if (!reader.ok() || message.argv.count() == 0) return std::nullopt;
    return message;
  }

 private:
  static StringList take_list(Reader& reader) noexcept {
    const auto count = reader.get<std::uint32_t>();
    const StringList list(count, reader);
    // A count beyond the payload makes the reader fail, which ends the loop.
    for (std::uint32_t i = 0; i < count && reader.ok(); ++i) reader.get_string();
    return list;
  }

  static void take_appended(Reader& reader, Exec& message) noexcept {
    message.umask = reader.get<std::uint32_t>();
    const auto count = reader.get<std::uint32_t>();
    if (count > ResourceLimit::resources) return reader.fail();
    for (std::uint32_t i = 0; i < count; ++i) message.limits.add(ResourceLimit::take(reader));
    message.interpreter = reader.get_string();
    message.libraries = take_list(reader);
  }
};

/// An Exec to send: the fixed fields, with the two lists in containers of strings.
template <typename Strings>
struct ExecRequest {
  Exec fixed;
  const Strings& argv;
  const Strings& env;
  const Strings* libraries = nullptr;  // nullptr: none

  void encode(Writer& writer) const noexcept {
    writer.put(fixed.flags);
    writer.put(fixed.stdin_port);
    writer.put(fixed.stdout_port);
    writer.put(fixed.stderr_port);
    writer.put(fixed.program_port);
    writer.put(fixed.program_size);
    writer.put(fixed.rows);
    writer.put(fixed.columns);
    writer.put_string(fixed.user);
    writer.put_string(fixed.directory);
    put_list(writer, argv);
    put_list(writer, env);
    writer.put(fixed.umask);
    writer.put(static_cast<std::uint32_t>(fixed.limits.list().size()));
    for (const ResourceLimit& limit : fixed.limits.list()) limit.encode(writer);
    writer.put_string(fixed.interpreter);
    put_list(writer, libraries != nullptr ? *libraries : Strings());
  }

 private:
  static void put_list(Writer& writer, const Strings& list) noexcept {
    writer.put(static_cast<std::uint32_t>(list.size()));
    for (const auto& text : list) writer.put_string(text);
  }
};

struct Started {
  std::uint32_t pid = 0;

  void encode(Writer& writer) const noexcept { writer.put(pid); }
  static std::optional<Started> decode(Reader reader) noexcept {
    Started message{reader.get<std::uint32_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

/// What the guest was doing when an exec failed before the program ran.
enum class ExecStep : std::uint32_t {
  request = 1,    // malformed, or too many at once
  streams = 2,    // dialling a stream, making pipes
  terminal = 3,   // opening the pty
  upload = 4,     // receiving the program
  user = 5,       // no such user or group
  directory = 6,  // chdir
  fork = 7,
  identity = 8,      // setgroups, setgid, setuid
  execute = 9,       // looking it up and executing it: ENOENT is exit 127, anything else 126
  limits = 10,       // setrlimit
  interpreter = 11,  // an upload's loader is not there: `object`, exit 127
  library = 12,      // a library that an upload needs is not there: `object`, exit 127
};

struct ExecFailed {
  ExecStep step{};
  std::uint32_t error = 0;  // errno
  std::string_view object;  // what is missing, for steps that name it

  void encode(Writer& writer) const noexcept {
    writer.put(static_cast<std::uint32_t>(step));
    writer.put(error);
    writer.put_string(object);
  }
  static std::optional<ExecFailed> decode(Reader reader) noexcept {
    ExecFailed message{static_cast<ExecStep>(reader.get<std::uint32_t>()), reader.get<std::uint32_t>(), {}};
    if (reader.left() > 0) message.object = reader.get_string();
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

/// How a program ended: by its own exit code or by a signal.
struct Exited {
  static constexpr std::uint32_t by_signal = 1U << 0;
  static constexpr std::uint32_t out_of_memory = 1U << 1;  // the guest kernel's OOM killer did it

  std::uint32_t flags = 0;
  std::uint32_t value = 0;  // exit code, or signal number

  void encode(Writer& writer) const noexcept {
    writer.put(flags);
    writer.put(value);
  }
  static std::optional<Exited> decode(Reader reader) noexcept {
    Exited message{reader.get<std::uint32_t>(), reader.get<std::uint32_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

/// What the host's clock says now; the guest follows when it is off by more than 100 ms.
struct SetTime {
  std::uint64_t realtime_ns = 0;

  void encode(Writer& writer) const noexcept { writer.put(realtime_ns); }
  static std::optional<SetTime> decode(Reader reader) noexcept {
    SetTime message{reader.get<std::uint64_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

struct Signal {
  std::uint32_t number = 0;

  void encode(Writer& writer) const noexcept { writer.put(number); }
  static std::optional<Signal> decode(Reader reader) noexcept {
    Signal message{reader.get<std::uint32_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

struct Resize {
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;

  void encode(Writer& writer) const noexcept {
    writer.put(rows);
    writer.put(columns);
  }
  static std::optional<Resize> decode(Reader reader) noexcept {
    Resize message{reader.get<std::uint16_t>(), reader.get<std::uint16_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

}  // namespace minivm::protocol
