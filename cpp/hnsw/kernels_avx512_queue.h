// The queue of a walk under AVX-512: walk_queue.h.
#pragma once

#include "hnsw/kernels_avx512_base.h"

namespace embedcore::hnsw {

namespace {

inline std::uint32_t not_above(const float* sixteen, float x) {
  return _mm512_cmp_ps_mask(_mm512_loadu_ps(sixteen), _mm512_set1_ps(x), _CMP_LE_OQ);
}
inline std::uint32_t below(const float* sixteen, float x) {
  return _mm512_cmp_ps_mask(_mm512_loadu_ps(sixteen), _mm512_set1_ps(x), _CMP_LT_OQ);
}
inline std::uint32_t not_expanded(const std::uint32_t* sixteen) {
  return _mm512_testn_epi32_mask(load(sixteen), _mm512_set1_epi32(static_cast<int>(expanded)));
}

// Sixteen places at a time, from the last ones down: what is nearer stays, what is farther moves up by one,
// as max(one place below, min(here, new)) says of distances. Whole aligned blocks are loaded and stored, so
// that the next insertion does not wait for what this one has stored; four before it is asked whether the
// rest stays as it is, as that cannot be foretold and most queues have no more.
inline std::size_t insert(Walk& w, float distance, std::uint32_t slot) {
  const std::size_t size = w.size < w.capacity ? w.size + 1 : w.capacity;
  w.size = size;
  const __m512 x = _mm512_set1_ps(distance);
  const __m512i to = _mm512_set1_epi32(static_cast<int>(slot));
  std::size_t i = (size - 1) / 16 * 16;
  // Whatever lies behind the end stays infinite.
  const __mmask16 kept = static_cast<__mmask16>(0xFFFFu >> (15 - (size - 1) % 16));
  __m512 here = _mm512_mask_mov_ps(_mm512_set1_ps(__builtin_inff()), kept, _mm512_loadu_ps(w.distances + i));
  __m512i slots = load(w.slots + i);
  __mmask16 inside = kept;
  std::size_t nearer = 0;
  std::size_t blocks = 0;
  for (;; i -= 16) {
    const bool first = i == 0;
    const __m512 below = first ? _mm512_set1_ps(-__builtin_inff()) : _mm512_loadu_ps(w.distances + i - 16);
    const __m512i slots_below = first ? _mm512_setzero_si512() : load(w.slots + i - 16);
    const __m512 moved =
        _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(here), _mm512_castps_si512(below), 15));
    const __mmask16 stays = _mm512_cmp_ps_mask(here, x, _CMP_LE_OQ);
    const __mmask16 follows = _mm512_cmp_ps_mask(moved, x, _CMP_LE_OQ); // what stays, or the new one
    const __m512 ranked = _mm512_max_ps(moved, _mm512_min_ps(here, x));
    _mm512_storeu_ps(w.distances + i, _mm512_mask_mov_ps(_mm512_set1_ps(__builtin_inff()), inside, ranked));
    const __m512i new_slots = _mm512_mask_mov_epi32(_mm512_alignr_epi32(slots, slots_below, 15), follows, to);
    _mm512_storeu_si512(w.slots + i, _mm512_mask_mov_epi32(new_slots, stays, slots));
    nearer += static_cast<unsigned>(__builtin_popcount(stays));
    if (first || (++blocks % 4 == 0 && stays != 0)) return i + nearer;
    here = below;
    slots = slots_below;
    inside = 0xFFFF;
  }
}

// Into a longer queue nodes go one after the other.
constexpr std::size_t most_merged = 512;

// What is behind the first of sixteen ascending values moves up by one, as far as the new one; the last falls
// off.
struct Sixteen {
  __m512 distances = _mm512_set1_ps(__builtin_inff());
  __m512i slots = _mm512_setzero_si512();

  void add(float distance, std::uint32_t slot) {
    const __m512 x = _mm512_set1_ps(distance);
    const __m512i ends = _mm512_castps_si512(_mm512_set1_ps(-__builtin_inff()));
    const __m512 moved = _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(distances), ends, 15));
    const __mmask16 stays = _mm512_cmp_ps_mask(distances, x, _CMP_LE_OQ);
    const __mmask16 follows = _mm512_cmp_ps_mask(moved, x, _CMP_LE_OQ);
    const __m512i up = _mm512_mask_mov_epi32(_mm512_alignr_epi32(slots, ends, 15), follows,
                                             _mm512_set1_epi32(static_cast<int>(slot)));
    slots = _mm512_mask_mov_epi32(up, stays, slots);
    distances = _mm512_max_ps(moved, _mm512_min_ps(distances, x));
  }
};

// How many of n ascending values, behind which infinities follow, are not above x, which is none.
inline std::size_t count_not_above(const float* values, std::size_t n, float x) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < n; i += 64) {
    const std::uint64_t low = not_above(values + i, x) | not_above(values + i + 16, x) << 16;
    const std::uint64_t high = not_above(values + i + 32, x) | not_above(values + i + 48, x) << 16;
    count += static_cast<std::size_t>(__builtin_popcountll(low | high << 32));
  }
  return count;
}

// The new ones are sorted among themselves and counted against the queue, which says where all of them will
// be; then each block of the queue is written once, from the last one down, what was there spread over the
// places that the new ones leave.
inline void push_all(Walk& w, const float* distances, const std::uint32_t* slots, std::uint32_t near) {
  if ((near & (near - 1)) == 0 || w.capacity > most_merged) return push_one_by_one(w, distances, slots, near);
  Sixteen fresh;
  for (std::uint32_t left = near; left != 0; left &= left - 1) {
    const auto i = static_cast<unsigned>(__builtin_ctz(left));
    ask_for_links(w, slots[i]);
    fresh.add(distances[i], slots[i]);
  }
  alignas(64) float sorted[32];
  alignas(64) std::uint32_t sorted_slots[32];
  for (std::size_t i = 0; i < 32; i += 16) {
    _mm512_store_ps(sorted + i, fresh.distances);
    _mm512_store_si512(sorted_slots + i, fresh.slots);
  }
  alignas(64) std::uint64_t taken[most_merged / 64] = {}; // places of new ones
  const auto all = static_cast<std::size_t>(__builtin_popcount(near));
  std::size_t n = 0;
  std::size_t first = w.capacity;
  for (; n < all; ++n) {
    const std::size_t at = n + count_not_above(w.distances, w.size, sorted[n]);
    if (at >= w.capacity) break;
    first = n == 0 ? at : first;
    taken[at / 64] |= std::uint64_t{1} << at % 64;
  }
  if (n == 0) return;
  w.next = first < w.next ? first : w.next;
  w.size = w.size + n < w.capacity ? w.size + n : w.capacity;
  std::size_t i = (w.size - 1) / 16 * 16;
  // Whatever lies behind the end stays infinite.
  __mmask16 inside = static_cast<__mmask16>(0xFFFFu >> (15 - (w.size - 1) % 16));
  for (std::size_t below = n;; i -= 16) {
    const auto fresh_here = static_cast<__mmask16>(taken[i / 64] >> i % 64);
    below -= static_cast<unsigned>(__builtin_popcount(fresh_here));
    const auto old_here = static_cast<__mmask16>(~fresh_here);
    __m512 d = _mm512_maskz_expand_ps(old_here, _mm512_loadu_ps(w.distances + i - below));
    d = _mm512_mask_expand_ps(d, fresh_here, _mm512_loadu_ps(sorted + below));
    __m512i s = _mm512_maskz_expand_epi32(old_here, load(w.slots + i - below));
    s = _mm512_mask_expand_epi32(s, fresh_here, load(sorted_slots + below));
    _mm512_storeu_ps(w.distances + i, _mm512_mask_mov_ps(_mm512_set1_ps(__builtin_inff()), inside, d));
    _mm512_storeu_si512(w.slots + i, s);
    if (i <= first) return;
    inside = 0xFFFF;
  }
}

} // namespace

} // namespace embedcore::hnsw
