#include "guest-init/netlink.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace minivm::guest {

Netlink::Netlink() noexcept : socket_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)) {}

void Netlink::start(std::uint16_t type, std::uint16_t flags, std::span<const std::byte> fixed) noexcept {
  size_ = 0;
  nlmsghdr header{};
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  header.nlmsg_seq = ++sequence_;
  append(std::as_bytes(std::span(&header, 1)));
  append(fixed);
}

void Netlink::add(std::uint16_t type, std::span<const std::byte> value) noexcept {
  rtattr header{};
  header.rta_type = type;
  header.rta_len = static_cast<std::uint16_t>(RTA_LENGTH(value.size()));
  append(std::as_bytes(std::span(&header, 1)));
  append(value);
}

// Every part ends at a multiple of four bytes.
void Netlink::append(std::span<const std::byte> bytes) noexcept {
  const std::size_t padded = (bytes.size() + 3) / 4 * 4;
  if (padded > sizeof(buffer_) - size_) return;
  std::memset(buffer_ + size_, 0, padded);
  std::memcpy(buffer_ + size_, bytes.data(), bytes.size());
  size_ += padded;
}

int Netlink::send() noexcept {
  if (!socket_) return errno;
  const auto size = static_cast<std::uint32_t>(size_);
  std::memcpy(buffer_, &size, sizeof(size));
  if (::send(socket_.get(), buffer_, size_, 0) < 0) return errno;
  struct {
    nlmsghdr header;
    nlmsgerr error;
    std::byte request[sizeof(buffer_)];
  } answer{};
  if (recv(socket_.get(), &answer, sizeof(answer), 0) < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(int)))) return EPROTO;
  return answer.header.nlmsg_type == NLMSG_ERROR ? -answer.error.error : EPROTO;
}

}  // namespace minivm::guest
