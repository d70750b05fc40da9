// Chunk after chunk in the background.
#include "hnsw/verification.h"

#include <algorithm>
#include <new>
#include <system_error>
#include <utility>

#include "common/crc32c.h"

namespace embedcore::hnsw {

std::size_t chunk_bytes(const snapshot::Section& section, std::uint64_t number) {
  return static_cast<std::size_t>(
      std::min<std::uint64_t>(snapshot::chunk, section.bytes - number * snapshot::chunk));
}

std::string chunk_damage(const snapshot::Section& section, std::uint64_t number, const std::byte* bytes,
                         std::uint32_t checksum) {
  const std::size_t n = chunk_bytes(section, number);
  if (crc32c(bytes, n) != checksum) return "fails its checksum";
  const std::uint64_t begin = number * snapshot::chunk;
  if (begin + n <= section.used) return {};
  const std::size_t used = section.used > begin ? static_cast<std::size_t>(section.used - begin) : 0;
  const bool zero = std::all_of(bytes + used, bytes + n, [](std::byte b) { return b == std::byte{0}; });
  return zero ? "" : "has padding that is not zero";
}

Verification::Verification(std::string path, SnapshotFile file, std::vector<Work> work)
    : path_(std::move(path)), file_(std::move(file)), work_(std::move(work)), buffer_(snapshot::chunk) {
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {
    run();
  }
}

Verification::~Verification() {
  stop_.store(true, std::memory_order_relaxed);
  if (thread_.joinable()) thread_.join();
}

Status Verification::damage() const {
  return {Code::data_loss, message_.empty() ? path_ + " is damaged" + snapshot_remedy : message_};
}

Status Verification::wait() const {
  state_.wait(State::running, std::memory_order_acquire);
  return health();
}

void Verification::end(State state) {
  state_.store(state, std::memory_order_release);
  state_.notify_all();
}

void Verification::run() {
  try {
    end(look());
  } catch (const std::bad_alloc&) { // for the message: nothing else asks for memory
    end(State::damaged);
  }
}

Verification::State Verification::look() {
  for (const Work& part : work_) {
    for (std::uint64_t number = 0; number < part.section.chunks(); ++number) {
      if (stop_.load(std::memory_order_relaxed)) return State::stopped;
      const std::uint64_t at = part.section.at + number * snapshot::chunk;
      std::string damage = "cannot be read";
      if (file_.read(at, buffer_.data(), chunk_bytes(part.section, number))) {
        damage = chunk_damage(part.section, number, buffer_.data(), part.checksums[number]);
      }
      if (damage.empty()) continue;
      message_ = path_ + ": chunk " + std::to_string(number) + " of its " + part.what + " " + damage +
                 "; the index is out of service" + snapshot_remedy;
      return State::damaged;
    }
  }
  return State::sound;
}

} // namespace embedcore::hnsw
