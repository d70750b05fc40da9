// For the tests of the kernels: memory that ends where the system forbids reading on, and rows and queries of
// every form with their values in double, decoded independently of the kernels.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "hnsw/kernels.h"

namespace embedcore::hnsw {

inline std::vector<const Kernels*> running() {
  std::vector<const Kernels*> all;
  for (const Kernels* kernels : compiled_kernels()) {
    if (runs_here(*kernels)) all.push_back(kernels);
  }
  return all;
}

inline constexpr Form every_form[] = {Form::f32, Form::f16, Form::bf16, Form::s8,
                                      Form::i8,  Form::i7,  Form::u4};
inline constexpr Sum every_sum[] = {Sum::dot, Sum::l2};
inline bool whole(Form form) { return form == Form::i8 || form == Form::i7 || form == Form::u4; } // exact
inline std::uint32_t most(Form form) { return form == Form::i7 ? 63 : 127; } // of a byte of a row
inline std::size_t index_of(Form form) { return static_cast<std::size_t>(form); }
inline std::size_t index_of(Sum sum) { return static_cast<std::size_t>(sum); }

// Zeroed bytes, then `shift` poisoned ones (NaN in every float form), then a page that faults when touched.
class Guarded {
 public:
  explicit Guarded(std::size_t bytes, std::size_t shift = 0) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t before = (bytes + shift + page - 1) / page * page;
    size_ = before + page;
    base_ = static_cast<std::byte*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + before, page, PROT_NONE) != 0) std::abort();
    std::memset(base_, 0xFF, before);
    data_ = base_ + before - shift - bytes;
    std::memset(data_, 0, bytes);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(base_, size_); }

  [[nodiscard]] std::byte* data() const { return data_; }

 private:
  std::size_t size_;
  std::byte* base_;
  std::byte* data_;
};

inline double from_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  double value = std::ldexp(exponent == 0 ? mantissa : 1024 + mantissa, exponent == 0 ? -24 : exponent - 25);
  if (exponent == 31) {
    value =
        mantissa == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

template <class T>
T read(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}
template <class T>
void write(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof(value));
}

// Bytes of a row of n values; where the Scales of an s8 row lie.
inline std::size_t scales_at(std::size_t n) { return (n + 63) / 64 * 64; }
inline std::size_t row_bytes(Form form, std::size_t n) {
  switch (form) {
    case Form::f32:
      return 4 * n;
    case Form::s8:
      return scales_at(n) + sizeof(Scales);
    case Form::i8:
    case Form::i7:
      return n;
    case Form::u4:
      return n / 2;
    default:
      return 2 * n;
  }
}

// From -most to most.
inline std::int8_t byte_of(Form form, std::uint32_t bits) {
  return static_cast<std::int8_t>(static_cast<int>(bits % (2 * most(form) + 1)) -
                                  static_cast<int>(most(form)));
}

// Where bit b of value i of a u4 row of n values lies.
struct BitPlace {
  std::size_t byte;
  std::size_t bit;
};
inline BitPlace bit_place(std::size_t n, std::size_t i, std::size_t b) {
  const std::size_t block = i / 128;
  const std::size_t rest = i % 128;
  if (b == 3) return {16 * block + rest % 16, rest / 16};
  if (b == 0) return {n / 8 + n / 4 + 16 * block + rest % 16, rest / 16};
  return {n / 8 + 32 * block + rest % 32, rest / 32 * 2 + (b - 1)};
}

// A few rows, the last of which ends `shift` bytes before the guard.
struct Rows {
  Rows(Form f, std::size_t dim, std::size_t rows, std::size_t gap = 0, std::size_t shift = 0)
      : form(f),
        n(dim),
        count(rows),
        stride(row_bytes(f, dim) + gap),
        memory(count == 0 ? 0 : (count - 1) * stride + row_bytes(f, dim), shift) {}

  [[nodiscard]] std::byte* row(std::size_t slot) const { return memory.data() + slot * stride; }

  // Value i of a row as the integers or floats that are kept.
  [[nodiscard]] double kept(std::size_t slot, std::size_t i) const {
    const std::byte* at = row(slot);
    switch (form) {
      case Form::f32:
        return read<float>(at + 4 * i);
      case Form::f16:
        return from_half(read<std::uint16_t>(at + 2 * i));
      case Form::bf16: {
        const std::uint32_t bits = std::uint32_t{read<std::uint16_t>(at + 2 * i)} << 16;
        return read<float>(reinterpret_cast<const std::byte*>(&bits));
      }
      case Form::u4: {
        unsigned u = 0;
        for (std::size_t b = 0; b < 4; ++b) {
          const BitPlace place = bit_place(n, i, b);
          u |= (static_cast<unsigned>(at[place.byte]) >> place.bit & 1u) << b;
        }
        return u;
      }
      default:
        return read<std::int8_t>(at + i);
    }
  }
  // What a unit of kept() is worth in a sum of squares.
  [[nodiscard]] double unit(std::size_t slot) const {
    if (form == Form::u4) return 16;
    return form == Form::s8 ? read<Scales>(row(slot) + scales_at(n)).step : 1;
  }

  // bits: random, or what the test wants; for floats they become a tame number, subnormals among them.
  void put(std::size_t slot, std::size_t i, std::uint32_t bits) const {
    std::byte* at = row(slot);
    const std::uint32_t sign = bits >> 31;
    switch (form) {
      case Form::f32:
        return write(at + 4 * i, sign << 31 | (110 + bits % 20) << 23 | (bits >> 8 & 0x7FFFFF));
      case Form::f16:
        return write(at + 2 * i,
                     static_cast<std::uint16_t>(sign << 15 | bits % 20 << 10 | (bits >> 8 & 1023)));
      case Form::bf16:
        return write(at + 2 * i,
                     static_cast<std::uint16_t>(sign << 15 | (110 + bits % 20) << 7 | (bits >> 8 & 127)));
      case Form::u4: {
        for (std::size_t b = 0; b < 4; ++b) {
          const BitPlace place = bit_place(n, i, b);
          const std::byte one = std::byte{1} << place.bit;
          at[place.byte] = (bits >> b & 1) != 0 ? at[place.byte] | one : at[place.byte] & ~one;
        }
        return;
      }
      default:
        return write(at + i, byte_of(form, bits));
    }
  }
  void fill(std::mt19937& random) const {
    for (std::size_t slot = 0; slot < count; ++slot) {
      for (std::size_t i = 0; i < n; ++i) put(slot, i, static_cast<std::uint32_t>(random()));
      if (form == Form::s8) write(row(slot) + scales_at(n), Scales{0.25f + static_cast<float>(slot), 0, 0});
    }
  }

  Form form;
  std::size_t n;
  std::size_t count;
  std::size_t stride;
  Guarded memory;
};

// A query, which ends `shift` values before the guard: floats, or bytes.
struct Query {
  Query(Form f, Sum s, std::size_t dim, std::size_t shift = 0)
      : form(f), sum(s), n(dim), memory(dim * (whole(f) ? 1 : 4), shift * (whole(f) ? 1 : 4)) {}

  [[nodiscard]] double value(std::size_t i) const {
    if (!whole(form)) return read<float>(memory.data() + 4 * i);
    if (form == Form::u4 && sum == Sum::l2) return static_cast<unsigned>(memory.data()[i]);
    return read<std::int8_t>(memory.data() + i);
  }
  void put(std::size_t i, float value) const { // not for bytes
    write(memory.data() + 4 * i, value);
  }
  void put(std::size_t i, int value) const { // for bytes
    memory.data()[i] = static_cast<std::byte>(value);
  }
  void fill(std::mt19937& random) const {
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i < n; ++i) {
      const auto bits = static_cast<std::uint32_t>(random());
      if (!whole(form)) {
        put(i, normal(random));
      } else {
        put(i, form == Form::u4 && sum == Sum::l2 ? static_cast<int>(bits % 256) : int{byte_of(form, bits)});
      }
    }
  }

  Form form;
  Sum sum;
  std::size_t n;
  Guarded memory;
};

struct Expected {
  double sum = 0;       // exact for integers
  double magnitude = 0; // of what was added up: rounding errors are relative to this
};
inline Expected expected(const Query& query, const Rows& rows, std::size_t slot) {
  Expected e;
  for (std::size_t i = 0; i < rows.n; ++i) {
    const double q = query.value(i);
    const double r = rows.kept(slot, i) * (query.sum == Sum::l2 ? rows.unit(slot) : 1);
    e.sum += query.sum == Sum::dot ? q * r : (q - r) * (q - r);
    const double both = std::abs(q) + std::abs(r);
    e.magnitude += query.sum == Sum::dot ? std::abs(q * r) : both * both;
  }
  return e;
}

inline Measure measure_of(const Query& query, const Rows& rows) {
  return {query.memory.data(), rows.n, rows.memory.data(), rows.stride, 0, 1, nullptr, 0, nullptr, 0, 0};
}

inline void measure(const Kernels& kernels, Form form, Sum sum, const Measure& m, const std::uint32_t* slots,
                    std::size_t count, float* distances) {
  kernels.measure[index_of(form)][index_of(sum)](m, slots, count, distances);
}

} // namespace embedcore::hnsw
