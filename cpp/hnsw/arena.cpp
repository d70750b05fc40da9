// Reserving and committing memory with mmap and mprotect.
#include "hnsw/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace embedcore::hnsw {

namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t small_step = std::size_t{64} << 10;

constexpr std::size_t round_up(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

} // namespace

std::size_t physical_memory() { return static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * page_size(); }

Arena::~Arena() {
  if (base_ != nullptr) ::munmap(base_, reserved_);
}

Status Arena::reserve(std::size_t wanted, std::size_t minimum) {
  minimum = round_up(minimum, huge_page);
  for (std::size_t bytes = std::max(round_up(wanted, huge_page), minimum);; bytes = bytes / 2) {
    bytes = std::max(round_up(bytes, huge_page), minimum);
    void* at =
        ::mmap(nullptr, bytes + huge_page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
      if (bytes == minimum) {
        return {Code::resource_exhausted, "no address space for " + std::to_string(bytes) +
                                              " bytes: raise the limit on virtual memory (ulimit -v)"};
      }
      continue;
    }
    // Huge pages need alignment: give back what lies before and after the aligned range.
    auto* first = static_cast<std::byte*>(at);
    const std::size_t head = round_up(reinterpret_cast<std::uintptr_t>(first), huge_page) -
                             reinterpret_cast<std::uintptr_t>(first);
    if (head != 0) ::munmap(first, head);
    if (head != huge_page) ::munmap(first + head + bytes, huge_page - head);
    base_ = first + head;
    reserved_ = bytes;
    ::madvise(base_, reserved_, MADV_HUGEPAGE); // advice: a system without huge pages works too
    return {};
  }
}

bool Arena::commit(std::size_t bytes) {
  if (bytes <= committed_) return true;
  if (bytes > reserved_) return false;
  // In steps of a thirty-second of what there is: the system hands out a huge page only where a whole one is
  // usable, so that little is resident beyond what is used, however small the index.
  const std::size_t target =
      std::min(round_up(std::max(bytes, committed_ + committed_ / 32), small_step), reserved_);
  if (::mprotect(base_ + committed_, target - committed_, PROT_READ | PROT_WRITE) != 0) return false;
  committed_ = target;
  return true;
}

bool Arena::map(int file, std::uint64_t offset, std::size_t bytes) {
  if (bytes > reserved_ || bytes % page_size() != 0 || offset % page_size() != 0) return false;
  void* at = ::mmap(base_, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file,
                    static_cast<off_t>(offset));
  if (at == MAP_FAILED) return false;
  committed_ = mapped_ = bytes;
  return true;
}

void Arena::release(std::size_t from) {
  from = round_up(from, page_size());
  if (from < mapped_) { // pages of a file would come back as the file has them
    ::mmap(base_ + from, mapped_ - from, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    mapped_ = from;
  }
  if (from < committed_) ::madvise(base_ + from, committed_ - from, MADV_DONTNEED);
}

std::size_t Arena::resident() const {
  // mincore reports what is mapped; in steps, so that a large index needs no large buffer.
  std::size_t pages = 0;
  std::vector<unsigned char> present(4096);
  const std::size_t step = present.size() * page_size();
  for (std::size_t at = 0; at < committed_; at += step) {
    const std::size_t bytes = std::min(step, committed_ - at);
    if (::mincore(base_ + at, bytes, present.data()) != 0) continue;
    const std::size_t count = bytes / page_size();
    for (std::size_t i = 0; i < count; ++i) pages += present[i] & 1u;
  }
  return pages * page_size();
}

} // namespace embedcore::hnsw
