#include "guest-init/links.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "freestanding/text.h"
#include "guest-init/file.h"
#include "protocol/guest_config.h"

namespace minivm::guest {

Outcome make_links() noexcept {
  const Path tree = Path("/").add(protocol::initramfs::root);
  const Fd top = open_file(tree.c_str(), O_PATH | O_DIRECTORY);
  if (!top) return Failure{"open", tree.view(), errno};
  Lines lines(Path("/").add(protocol::initramfs::links).c_str());
  while (const auto line = lines.next()) {
    std::string_view path = *line;
    const Path target(take_field(path, ' '));
    if (symlinkat(target.c_str(), top.get(), Path(path).c_str()) != 0 && errno != EEXIST) {
      return Failure{"make link", path, errno};
    }
  }
  return {};
}

}  // namespace minivm::guest
