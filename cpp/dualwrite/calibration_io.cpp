// A ScoreCalibration as bytes and as a file; the layout is the table at the class.
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/crc32c.h"
#include "common/files.h"
#include "dualwrite/calibration.h"

namespace embedcore::dualwrite {

static_assert(std::endian::native == std::endian::little, "the file is written as memory holds it");

namespace {

constexpr char magic[8] = {'E', 'M', 'B', 'C', 'C', 'A', 'L', '1'};
constexpr std::size_t header_bytes = sizeof magic + sizeof(std::uint32_t) + sizeof(std::uint64_t);

constexpr std::size_t bytes_of(std::size_t knots) {
  return header_bytes + 2 * knots * sizeof(double) + sizeof(std::uint32_t);
}
static_assert(bytes_of(ScoreCalibration::max_knots) == 1048, "as documented at the class");

void append(std::vector<std::byte>& out, const void* data, std::size_t n) {
  if (n == 0) return;
  out.resize(out.size() + n); // insert() of bytes sets off a false alarm of GCC 12 at -O3
  std::memcpy(out.data() + out.size() - n, data, n);
}

template <class T>
T read_at(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

bool strictly_increasing(std::span<const double> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]) || (i > 0 && values[i] <= values[i - 1])) return false;
  }
  return true;
}

Error damaged(const std::string& what) {
  return {Code::data_loss, "not a score calibration: " + what + "; restore it or fit a new one"};
}

} // namespace

std::vector<std::byte> ScoreCalibration::to_bytes() const {
  std::vector<std::byte> out;
  out.reserve(bytes_of(source_.size()));
  const auto knots = static_cast<std::uint32_t>(source_.size());
  append(out, magic, sizeof magic);
  append(out, &knots, sizeof knots);
  append(out, &pairs_, sizeof pairs_);
  append(out, source_.data(), source_.size() * sizeof(double));
  append(out, target_.data(), target_.size() * sizeof(double));
  const std::uint32_t crc = crc32c(out.data(), out.size());
  append(out, &crc, sizeof crc);
  return out;
}

Result<ScoreCalibration> ScoreCalibration::from_bytes(std::span<const std::byte> bytes) {
  if (bytes.size() < bytes_of(2)) {
    return damaged(std::to_string(bytes.size()) + " bytes are fewer than the smallest has");
  }
  if (std::memcmp(bytes.data(), magic, sizeof magic - 1) != 0) return damaged("it starts otherwise");
  if (const char version = read_at<char>(bytes, sizeof magic - 1); version != magic[sizeof magic - 1]) {
    return damaged(std::string("its format has version '") + version + "', this release reads '1'");
  }
  const auto knots = read_at<std::uint32_t>(bytes, sizeof magic);
  if (knots < 2 || knots > max_knots || bytes.size() != bytes_of(knots)) {
    return damaged(std::to_string(bytes.size()) + " bytes do not hold " + std::to_string(knots) + " knots");
  }
  const std::size_t body = bytes.size() - sizeof(std::uint32_t);
  if (crc32c(bytes.data(), body) != read_at<std::uint32_t>(bytes, body)) {
    return damaged("its checksum does not match");
  }
  std::vector<double> source(knots);
  std::vector<double> target(knots);
  std::memcpy(source.data(), bytes.data() + header_bytes, knots * sizeof(double));
  std::memcpy(target.data(), bytes.data() + header_bytes + knots * sizeof(double), knots * sizeof(double));
  if (!strictly_increasing(source) || !strictly_increasing(target)) {
    return damaged("its knots do not increase");
  }
  return ScoreCalibration(std::move(source), std::move(target),
                          read_at<std::uint64_t>(bytes, sizeof magic + sizeof knots));
}

Status ScoreCalibration::save(const std::string& path) const { return write_file(path, to_bytes()); }

Result<ScoreCalibration> ScoreCalibration::load(const std::string& path) {
  auto bytes = read_file(path, 1 << 20);
  if (!bytes.ok()) return bytes.error();
  auto calibration = from_bytes(bytes.value());
  if (!calibration.ok()) {
    return Error{calibration.error().code, path + " is " + calibration.error().message};
  }
  return calibration;
}

} // namespace embedcore::dualwrite
