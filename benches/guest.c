// PID 1 of the guests in the benchmarks: loads /modules, then does what it is told, a line at a time, and says when that is done.
//
//   disk read|write SIZE DEPTH COUNT   requests of SIZE bytes to /dev/vda past the guest's cache, DEPTH at once; those of
//                                      4096 bytes at random places, larger ones in sequence
//   address IPV4                       eth0 gets it, and is up
//   tcp out|in IPV4 MEBIBYTES          to port 9001, which takes all; from port 9002, which is told how many to give
//   vsock out|in MEBIBYTES             the same with the ports of the host
//   quit
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

enum { most_requests = 64, memory_size = 8 << 20, take_port = 9001, give_port = 9002 };
static char* memory;

static int requests(int fd, int writes, size_t size, int depth, int count) {
  const size_t disk = (size_t)lseek(fd, 0, SEEK_END);
  aio_context_t context = 0;
  struct iocb blocks[most_requests];
  struct iocb* list[most_requests];
  struct io_event events[most_requests];
  unsigned state = 1;
  size_t next = 0;
  if (depth < 1 || depth > most_requests || size * (size_t)depth > memory_size || disk < size) return -1;
  if (syscall(SYS_io_setup, most_requests, &context) != 0) return -1;
  for (int done = 0; done < count; done += depth) {
    for (int i = 0; i < depth; ++i) {
      state = state * 1664525 + 1013904223;
      const size_t offset = size > 4096 ? next : (state >> 8) % (disk / size) * size;
      next = next + 2 * size <= disk ? next + size : 0;
      blocks[i] = (struct iocb){.aio_fildes = (unsigned)fd,
                                .aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
                                .aio_buf = (unsigned long)(memory + (size_t)i * size),
                                .aio_nbytes = size,
                                .aio_offset = (long long)offset};
      list[i] = &blocks[i];
    }
    if (syscall(SYS_io_submit, context, (long)depth, list) != depth) return -1;
    if (syscall(SYS_io_getevents, context, (long)depth, (long)depth, events, 0) != depth) return -1;
    for (int i = 0; i < depth; ++i)
      if (events[i].res != (long long)size) return -1;
  }
  return syscall(SYS_io_destroy, context) == 0 ? 0 : -1;
}

static int disk(const char* way, size_t size, int depth, int count) {
  const int fd = open("/dev/vda", O_RDWR | O_DIRECT);
  const int result = fd < 0 ? -1 : requests(fd, strcmp(way, "write") == 0, size, depth, count);
  close(fd);
  return result;
}

static struct sockaddr_in internet(const char* text, int port) {
  struct sockaddr_in result = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  inet_pton(AF_INET, text, &result.sin_addr);
  return result;
}

static int set_address(const char* text) {
  const int control = socket(AF_INET, SOCK_DGRAM, 0);
  struct ifreq request = {.ifr_name = "eth0"};
  *(struct sockaddr_in*)&request.ifr_addr = internet(text, 0);
  if (ioctl(control, SIOCSIFADDR, &request) != 0) return -1;
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  return ioctl(control, SIOCSIFFLAGS, &request);
}

// All bytes, to the last answer of the other end.
static int move(int stream, int sends, int mebibytes) {
  const size_t piece = 256 << 10;
  char ask[32];
  const int length = snprintf(ask, sizeof(ask), "%d\n", mebibytes);
  if (!sends && write(stream, ask, (size_t)length) != length) return -1;
  for (size_t left = (size_t)mebibytes << 20; left > 0;) {
    const size_t size = left < piece ? left : piece;
    const ssize_t moved = sends ? write(stream, memory, size) : read(stream, memory, size);
    if (moved <= 0) return -1;
    left -= (size_t)moved;
  }
  shutdown(stream, SHUT_WR);
  while (read(stream, memory, piece) > 0) continue;
  return close(stream);
}

static int tcp(int sends, const char* host, int mebibytes) {
  const struct sockaddr_in to = internet(host, sends ? take_port : give_port);
  const int stream = socket(AF_INET, SOCK_STREAM, 0);
  return connect(stream, (const struct sockaddr*)&to, sizeof(to)) == 0 ? move(stream, sends, mebibytes) : -1;
}

static int vsock(int sends, int mebibytes) {
  const struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_port = sends ? take_port : give_port, .svm_cid = VMADDR_CID_HOST};
  const int stream = socket(AF_VSOCK, SOCK_STREAM, 0);
  return connect(stream, (const struct sockaddr*)&to, sizeof(to)) == 0 ? move(stream, sends, mebibytes) : -1;
}

static int obey(const char* line) {
  char way[8];
  char host[32];
  size_t size = 0;
  int depth = 0;
  int count = 0;
  if (sscanf(line, "disk %7s %zu %d %d", way, &size, &depth, &count) == 4) return disk(way, size, depth, count);
  if (sscanf(line, "address %31s", host) == 1) return set_address(host);
  if (sscanf(line, "tcp %7s %31s %d", way, host, &count) == 3) return tcp(strcmp(way, "out") == 0, host, count);
  if (sscanf(line, "vsock %7s %d", way, &count) == 2) return vsock(strcmp(way, "out") == 0, count);
  return strncmp(line, "nothing", 7) == 0 ? 0 : -1;
}

int main(void) {
  char line[256];
  struct termios terminal;
  mount("dev", "/dev", "devtmpfs", 0, 0);
  for (int i = 0; snprintf(line, sizeof(line), "/modules/%02d", i), access(line, F_OK) == 0; ++i) {
    syscall(SYS_finit_module, open(line, O_RDONLY), "", 0);
  }
  // An echo would be two exits for each letter.
  if (tcgetattr(0, &terminal) == 0) terminal.c_lflag &= ~(tcflag_t)ECHO, tcsetattr(0, TCSANOW, &terminal);
  setlinebuf(stdout);
  if (posix_memalign((void**)&memory, 4096, memory_size) != 0) return 1;
  memset(memory, 'x', memory_size);
  puts("ready");
  while (fgets(line, sizeof(line), stdin) && strncmp(line, "quit", 4) != 0) {
    if (obey(line) == 0) {
      puts("done");
    } else {
      printf("failed: %m: %s", line);
    }
  }
  return reboot(RB_AUTOBOOT);
}
