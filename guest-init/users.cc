#include "guest-init/users.h"

#include <cerrno>
#include <optional>

#include "guest-init/file.h"

namespace minivm::guest {
namespace {

/// passwd(5): name:password:uid:gid:comment:home:shell.
bool read_passwd(std::string_view user, const char* file, Identity& identity) noexcept {
  const auto wanted_uid = parse_number(user);
  Lines lines(file);
  while (auto line = lines.next()) {
    std::string_view rest = *line;
    const auto name = take_field(rest, ':');
    take_field(rest, ':');
    const auto uid = parse_number(take_field(rest, ':'));
    const auto gid = parse_number(take_field(rest, ':'));
    take_field(rest, ':');
    const auto home = take_field(rest, ':');
    const auto shell = take_field(rest, ':');
    if (!uid || !gid || (wanted_uid ? *uid != *wanted_uid : name != user)) continue;
    identity.uid = *uid;
    identity.gid = *gid;
    identity.name = name;
    identity.home = home.empty() ? "/" : home;
    identity.shell = shell.empty() ? "/bin/sh" : shell;
    return true;
  }
  return false;
}

bool lists(std::string_view members, std::string_view name) noexcept {
  while (!members.empty()) {
    if (take_field(members, ',') == name) return true;
  }
  return false;
}

/// group(5): name:password:gid:members.
template <typename Visitor>
void for_each_group(const char* file, Visitor&& visit) noexcept {
  Lines lines(file);
  while (auto line = lines.next()) {
    std::string_view rest = *line;
    const auto name = take_field(rest, ':');
    take_field(rest, ':');
    const auto gid = parse_number(take_field(rest, ':'));
    if (gid) visit(name, *gid, rest);
  }
}

std::optional<gid_t> find_group(std::string_view group, const char* file) noexcept {
  if (const auto number = parse_number(group)) return *number;
  std::optional<gid_t> found;
  for_each_group(file, [&](std::string_view name, gid_t gid, std::string_view) noexcept {
    if (!found && name == group) found = gid;
  });
  return found;
}

void add_supplementary_groups(const char* file, Identity& identity) noexcept {
  for_each_group(file, [&](std::string_view, gid_t gid, std::string_view members) noexcept {
    if (identity.group_count < Identity::max_groups && gid != identity.gid && lists(members, identity.name.view())) {
      identity.groups[identity.group_count++] = gid;
    }
  });
}

}  // namespace

int find_identity(std::string_view user, const UserFiles& files, Identity& identity) noexcept {
  std::string_view group = user;
  const std::string_view wanted = take_field(group, ':');
  const std::string_view name = wanted.empty() ? "root" : wanted;
  identity = Identity{};
  if (!read_passwd(name, files.passwd, identity) && name != "root") {
    const auto uid = parse_number(name);
    if (!uid) return ENOENT;
    identity.uid = *uid;
    if (*uid != 0) {
      identity.name = name;
      identity.home = "/";
    }
  }
  if (group.empty()) {
    add_supplementary_groups(files.group, identity);
    return 0;
  }
  const auto gid = find_group(group, files.group);
  if (!gid) return ENOENT;
  identity.gid = *gid;
  return 0;
}

}  // namespace minivm::guest
