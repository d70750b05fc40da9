// Training the codes. Until there are enough items walks read the originals; then a codec is trained, and
// again as the index grows to several times what it was trained on, or when many values of new items fall
// outside of its grid.
//
// Old and new codes cannot be compared, so readers never see both: the codec is taken away, upon which
// searches walk on the originals (slower, as right); when the last search that knew it has ended, all codes
// are made anew and the new codec is published. Writers wait meanwhile. The graph stays as it is.
#include <algorithm>
#include <chrono>
#include <thread>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t fewest = 256;     // items worth codes
constexpr std::size_t enough = 1 << 16; // more items hardly change a codec (not Impl::settled)
constexpr std::size_t growth = 4;       // trained again at so many times the items, up to enough
constexpr std::size_t sample_size = 1 << 13;
constexpr double tolerated = 0.02; // share of values cut off; 0.0001 to 0.01 is what training leaves

} // namespace

bool Index::Impl::training_due(std::size_t coming) const {
  if (config.codes == Codes::none || codec_held.load(std::memory_order_acquire)) return false;
  if (saving.load(std::memory_order_acquire) != 0) return false; // not now: see install
  const std::size_t there = live.load(std::memory_order_relaxed);
  // The codec itself may be replaced and freed at any moment: whoever asks holds neither gate nor pin.
  const std::uint64_t base = trained_on.load(std::memory_order_relaxed);
  if (base == 0) return there + coming >= fewest;
  if (base < enough && there + coming >= growth * base) return true;
  const std::uint64_t since =
      counters.added.load(std::memory_order_relaxed) - added_at_training.load(std::memory_order_relaxed);
  if (since < std::max<std::uint64_t>(fewest, there / 4)) return false;
  const double values = static_cast<double>(since) * static_cast<double>(config.dim);
  return static_cast<double>(cut.load(std::memory_order_relaxed)) > tolerated * values;
}

void Index::Impl::train_if_due(Batch batch) {
  if (!training_due(batch.count)) return;
  const std::unique_lock alone(gate);
  if (!training_due(batch.count)) return; // another thread was first
  // Evenly from what is there and what comes.
  const Slot end = storage.end();
  const std::size_t all = end + batch.count;
  const std::size_t count = std::min(all, sample_size);
  std::vector<float> sample;
  std::vector<float> unit;
  sample.reserve(count * config.dim);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = i * all / count;
    const float* row = nullptr;
    if (at >= end) {
      row = unit_length(space, batch.rows + (at - end) * config.dim, unit);
    } else if (storage.state(static_cast<Slot>(at)) == State::live) {
      row = kept_unit(static_cast<Slot>(at), unit);
    } else {
      continue;
    }
    sample.insert(sample.end(), row, row + config.dim);
  }
  if (sample.empty()) return;
  install(Codec::train(config, sample, live.load(std::memory_order_relaxed) + batch.count));
}

// Pre-condition: gate held alone. Nothing asks for memory once the codec is taken away.
bool Index::Impl::install(CodecValues values) {
  if (saving.load(std::memory_order_acquire) != 0) return false; // codes are being copied out
  const Codec* old = space.codec.load(std::memory_order_acquire);
  auto fresh = std::make_unique<const Codec>(config, *kernels, std::move(values));
  std::vector<float> buffer(config.dim);
  if (old != nullptr) {
    space.codec.store(nullptr, std::memory_order_release);
    codec_held.store(true, std::memory_order_relaxed);
    try {
      epochs.retire([this] { codec_held.store(false, std::memory_order_release); });
    } catch (...) {
      codec_held.store(false, std::memory_order_relaxed);
      space.codec.store(old, std::memory_order_release);
      throw;
    }
    const int tries = Pin::depth == 0 ? 2000 : 1;
    for (int i = 0; i < tries && codec_held.load(std::memory_order_acquire); ++i) {
      if (epochs.try_reclaim() == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    if (codec_held.load(std::memory_order_acquire)) { // a search hangs in a callback: when it has ended
      space.codec.store(old, std::memory_order_release);
      return false;
    }
  }
  encode_all(*fresh, buffer);
  use(std::move(fresh));
  return true;
}

void Index::Impl::use(std::unique_ptr<const Codec> fresh) {
  coding = std::move(fresh);
  trained_on.store(coding->values().trained_on, std::memory_order_relaxed);
  cut.store(0, std::memory_order_relaxed);
  added_at_training.store(counters.added.load(std::memory_order_relaxed), std::memory_order_relaxed);
  space.codec.store(coding.get(), std::memory_order_release);
}

void Index::Impl::encode_all(const Codec& with, std::vector<float>& buffer) {
  const Slot end = storage.end();
  for (Slot slot = 0; slot < end; ++slot) {
    if (storage.state(slot) == State::free) continue; // detached ones are still walked through
    with.encode(kept_unit(slot, buffer), storage.code(slot));
  }
}

} // namespace embedcore::hnsw
