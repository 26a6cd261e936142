// Every short sequence of moves of a driver and a device on a queue of two descriptors, beside a model that says in the
// plainest way what has to come of it. The model is written from VirtIO 1.2, 2.7, and shares nothing with the queue.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/fd.h"
#include "devices/virtio/virtqueue.h"

using namespace minivm;
using namespace minivm::virtio;

namespace {

constexpr std::uint16_t size = 2;
constexpr std::uint64_t available = 0x1000;
constexpr std::uint64_t used = 0x2000;
constexpr std::uint64_t memory_size = 0x10000;

struct Answer {
  std::uint32_t head;
  std::uint32_t length;
  bool operator==(const Answer&) const = default;
};

/// What the ring has to do, in the words of the specification.
struct Model {
  struct Chain {
    std::uint16_t head = 0;
    std::uint64_t readable = 0;
    std::uint64_t writable = 0;
    bool operator==(const Chain&) const = default;
  };

  std::array<Descriptor, size> table{};
  std::array<std::uint16_t, size> ring{};
  std::uint16_t idx = 0;         // the driver's
  std::uint16_t next = 0;        // the device's
  std::uint16_t used_event = 0;  // the driver's
  bool no_interrupt = false;     // the driver's
  std::vector<Answer> answers;
  std::size_t considered = 0;  // answers that a decision about an interrupt has seen
  std::deque<std::uint16_t> held;
  std::optional<std::uint16_t> undoable;
  bool broken = false;

  std::optional<Chain> walk(std::uint16_t head) const {
    Chain chain{.head = head};
    std::set<std::uint16_t> visited;
    for (std::uint16_t index = head;;) {
      if (index >= size || !visited.insert(index).second) return std::nullopt;
      const Descriptor& descriptor = table[index];
      const bool writable = (descriptor.flags & Descriptor::write_flag) != 0;
      if (!writable && chain.writable != 0) return std::nullopt;
      if (descriptor.length != 0 && descriptor.address + descriptor.length > memory_size) return std::nullopt;
      (writable ? chain.writable : chain.readable) += descriptor.length;
      if ((descriptor.flags & Descriptor::next_flag) == 0) return chain;
      index = descriptor.next;
    }
  }
  std::optional<Chain> pop() {
    for (;;) {
      if (broken || idx == next) return std::nullopt;
      broken = static_cast<std::uint16_t>(idx - next) > size;
      if (broken) return std::nullopt;
      const std::uint16_t head = ring[next++ % size];
      broken = head >= size || std::ranges::find(held, head) != held.end();
      if (broken) return std::nullopt;
      if (const auto chain = walk(head)) {
        held.push_back(head);
        undoable = head;
        return chain;
      }
      answers.push_back({head, 0});
    }
  }
  bool wants_interrupt(bool event_idx) {
    const std::size_t from = std::exchange(considered, answers.size());
    if (!event_idx) return from != answers.size() && !no_interrupt;
    for (std::size_t i = from; i < answers.size(); ++i) {
      if (static_cast<std::uint16_t>(i) == used_event) return true;
    }
    return false;
  }
};

/// Queue and model, side by side.
struct Pair {
  explicit Pair(const GuestMemory& ram, bool with_event_idx) : memory(ram), event_idx(with_event_idx) {
    std::ranges::fill(memory.slice(Gpa{0}, 0x3000).value(), std::byte{0});
    const QueueConfig config{.size = size,
                             .ready = true,
                             .descriptor_table = Gpa{0},
                             .available_ring = Gpa{available},
                             .used_ring = Gpa{used}};
    queue.emplace(Virtqueue::create(config, size, event_idx ? feature::event_idx : 0, memory).value());
  }

  void describe(std::uint16_t index, const Descriptor& descriptor) {
    model.table[index] = descriptor;
    memory.write(Gpa{sizeof descriptor * index}, descriptor);
  }
  void offer(std::uint16_t head) {
    const auto slot = static_cast<std::uint16_t>(model.idx % size);
    model.ring[slot] = head;
    memory.write(Gpa{available + available_entries_offset + 2U * slot}, head);
    jump(1);
  }
  void jump(std::uint16_t distance) {
    model.idx = static_cast<std::uint16_t>(model.idx + distance);
    memory.write(Gpa{available + available_idx_offset}, model.idx);
  }
  void set_used_event(std::uint16_t event) {
    model.used_event = event;
    memory.write(Gpa{available + used_event_offset(size)}, event);
  }
  void suppress(bool suppress) {
    model.no_interrupt = suppress;
    memory.write(Gpa{available}, static_cast<std::uint16_t>(suppress ? available_no_interrupt : 0));
  }

  void pop() {
    const auto expected = model.pop();
    const bool popped = queue->pop(chain);
    agree(popped == expected.has_value());
    if (popped) agree(Model::Chain{chain.head(), chain.readable_size(), chain.writable_size()} == *expected);
  }
  void undo() {
    if (!model.undoable) return;
    std::erase(model.held, *std::exchange(model.undoable, std::nullopt));
    --model.next;
    queue->undo_pop();
  }
  void push(bool newest) {
    if (model.held.empty()) return;
    const std::uint16_t head = newest ? model.held.back() : model.held.front();
    std::erase(model.held, head);
    if (model.undoable == head) model.undoable.reset();
    model.answers.push_back({head, 7});
    queue->push_used(head, 7);
  }
  void enable() { agree(queue->enable_notifications() == (model.idx != model.next && !model.broken)); }
  void interrupt() { agree(queue->needs_interrupt() == model.wants_interrupt(event_idx)); }

  void agree(bool holds) { same = same && holds; }
  bool agrees() {
    agree(queue->broken() == model.broken);
    const auto idx = memory.read<std::uint16_t>(Gpa{used + used_idx_offset}).value();
    agree(idx == model.answers.size());
    // The ring shows the latest ones.
    for (std::size_t i = model.answers.size() < size ? 0 : model.answers.size() - size; i < model.answers.size(); ++i) {
      const auto element = memory.read<UsedElement>(Gpa{used + used_entries_offset + sizeof(UsedElement) * (i % size)});
      agree(Answer{element->id, element->length} == model.answers[i]);
    }
    return same;
  }

  const GuestMemory& memory;
  bool event_idx;
  std::optional<Virtqueue> queue;
  Model model;
  DescriptorChain chain;
  bool same = true;
};

struct Move {
  std::string name;
  std::function<void(Pair&)> make;
};

Move describe(std::uint16_t index, std::string shape, const Descriptor& descriptor) {
  return {"descriptor " + std::to_string(index) + " " + shape, [=](Pair& pair) { pair.describe(index, descriptor); }};
}

std::vector<Move> ring_moves() {
  return {{"offer 0", [](Pair& pair) { pair.offer(0); }},
          {"offer 1", [](Pair& pair) { pair.offer(1); }},
          {"pop", [](Pair& pair) { pair.pop(); }},
          {"undo", [](Pair& pair) { pair.undo(); }},
          {"push oldest", [](Pair& pair) { pair.push(false); }},
          {"push newest", [](Pair& pair) { pair.push(true); }},
          {"enable notifications", [](Pair& pair) { pair.enable(); }},
          {"interrupt?", [](Pair& pair) { pair.interrupt(); }}};
}

/// What queues say of bad rings would be a hundred thousand lines.
class Silence {
 public:
  Silence() : stderr_(::dup(STDERR_FILENO)) {
    const UniqueFd nowhere = open_file("/dev/null", O_WRONLY);
    ::dup2(nowhere.get(), STDERR_FILENO);
  }
  ~Silence() { ::dup2(stderr_.get(), STDERR_FILENO); }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  UniqueFd stderr_;
};

/// Makes every sequence of `length` of the moves; counts them.
std::size_t try_all(const std::vector<Move>& moves, std::size_t length, const std::function<void(Pair&)>& prepare) {
  static const GuestMemory memory(memory_size);
  const Silence silence;
  std::size_t count = 0;
  for (const bool event_idx : {false, true}) {
    std::vector<std::size_t> sequence(length, 0);
    for (bool more = true; more; ++count) {
      Pair pair(memory, event_idx);
      prepare(pair);
      bool agrees = true;
      for (std::size_t i = 0; agrees && i < length; ++i) {
        moves[sequence[i]].make(pair);
        agrees = pair.agrees();
      }
      if (!agrees) {
        std::string text;
        for (const std::size_t move : sequence) text += moves[move].name + "; ";
        FAIL("queue and model differ after: " << text << "EVENT_IDX " << event_idx);
      }
      more = false;
      for (std::size_t i = length; i-- > 0 && !more;) {
        more = ++sequence[i] < moves.size();
        if (!more) sequence[i] = 0;
      }
    }
  }
  return count;
}

}  // namespace

TEST_CASE("every short life of two good chains does what the specification says") {
  const auto count = try_all(ring_moves(), 5, [](Pair& pair) {
    pair.describe(0, {0x4000, 16, 0, 0});
    pair.describe(1, {0x5000, 32, Descriptor::write_flag, 0});
  });
  CHECK(count == 2 * 32'768);
}

TEST_CASE("every short sequence of descriptors, heads and indexes, good and bad, is judged as the specification says") {
  constexpr auto next = Descriptor::next_flag;
  constexpr auto write = Descriptor::write_flag;
  std::vector<Move> moves;
  for (const std::uint16_t index : {std::uint16_t{0}, std::uint16_t{1}}) {
    const auto other = static_cast<std::uint16_t>(1 - index);
    moves.push_back(describe(index, "readable", {0x4000, 16, 0, 0}));
    moves.push_back(describe(index, "writable, goes on", {0x5000, 8, write | next, other}));
    moves.push_back(describe(index, "readable, goes on", {0x6000, 4, next, other}));
    moves.push_back(describe(index, "goes on nowhere", {0x6000, 4, next, size}));
    moves.push_back(describe(index, "beyond RAM", {memory_size - 8, 9, 0, 0}));
  }
  moves.push_back({"offer 0", [](Pair& pair) { pair.offer(0); }});
  moves.push_back({"offer 1", [](Pair& pair) { pair.offer(1); }});
  moves.push_back({"offer what is none", [](Pair& pair) { pair.offer(size); }});
  moves.push_back({"jump", [](Pair& pair) { pair.jump(size + 1); }});
  moves.push_back({"pop", [](Pair& pair) { pair.pop(); }});
  const auto count = try_all(moves, 4, [](Pair&) {});
  CHECK(count == 2 * 50'625);
}

TEST_CASE(
    "whatever the driver asks for, interrupts come when an index that it named is passed, and only then (rule 1)") {
  std::vector<Move> moves = ring_moves();
  moves.erase(moves.begin() + 3);  // undo
  for (std::uint16_t event = 0; event < 3; ++event) {
    moves.push_back({"used_event " + std::to_string(event), [=](Pair& pair) { pair.set_used_event(event); }});
  }
  moves.push_back({"no interrupts", [](Pair& pair) { pair.suppress(true); }});
  const auto count = try_all(moves, 4, [](Pair& pair) {
    pair.offer(0);
    pair.offer(1);
    pair.pop();
  });
  CHECK(count == 2 * 14'641);
}
