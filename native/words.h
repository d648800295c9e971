// A word n-gram model (slyther_cli/decode/ngram.py) read where it lies, and what beam searches share.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace nb = nanobind;

namespace slyther {

constexpr double NEVER = -std::numeric_limits<double>::infinity();
constexpr double LN10 = 2.302585092994046;
constexpr int SHIFT = 24, BLANK = 0, CONTEXT = 3;
constexpr double ABSENT_UNKNOWN = -7.0;

template <typename T> using Vec = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Frames = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Token = std::tuple<int, int64_t, int64_t, double>;

inline double sum(double a, double b) {
    if (a < b) std::swap(a, b);
    return b == NEVER ? a : a + std::log1p(std::exp(b - a));
}

// Words that begin with what was spelt so far: places [low, high) of the sorted vocabulary, `length` bytes spelt.
struct Spelt {
    int32_t low = 0, high = 0;
    int32_t length = 0;
    bool operator==(const Spelt& other) const { return low == other.low && high == other.high && length == other.length; }
};

struct State {  // rows at level 1, 2, ... of the last word, the last two, ...; -1: none
    std::array<int64_t, CONTEXT> rows{};
    int count = 0;
    bool operator==(const State& other) const {
        return count == other.count && std::equal(rows.begin(), rows.begin() + count, other.rows.begin());
    }
};

struct Level {
    Vec<int64_t> keys;
    Vec<float> logp, backoff;
};

// decode/ngram.py's model, read where it lies.
class Words {
  public:
    Words(Vec<uint64_t> starts, Vec<uint8_t> text, int64_t begin, int64_t end, int64_t unknown)
        : starts_(starts), text_(text), begin_(begin), end_(end), unknown_(unknown) {
        if (!starts.size() || starts.data()[starts.size() - 1] > text.size()) throw std::invalid_argument("words end beyond their text");
        if (!std::is_sorted(starts.data(), starts.data() + starts.size())) throw std::invalid_argument("words end before they begin");
        for (int64_t id : {begin, end, unknown})
            if (id < -1 || id >= (int64_t)starts.size() - 1) throw std::invalid_argument("a word's number is beyond the vocabulary");
    }
    void add_level(Vec<int64_t> keys, Vec<float> logp, Vec<float> backoff) {
        if (levels_.size() > CONTEXT) throw std::invalid_argument("an n-gram has four words at most");
        const size_t count = levels_.empty() ? starts_.size() - 1 : keys.size();  // words are found by their number
        const bool back = !backoff.size() || backoff.size() == count;  // the longest ones have none
        const bool below = levels_.empty() || levels_.back().backoff.size() == levels_.back().logp.size();
        if (logp.size() != count || !back || !below) throw std::invalid_argument("an n-gram lacks a probability");
        levels_.push_back({keys, logp, backoff});
    }

    bool empty() const { return levels_.empty(); }
    Spelt all() const { return {0, (int32_t)(starts_.size() - 1), 0}; }
    Spelt narrowed(Spelt from, const std::string& more) const {
        for (char c : more) {
            const auto byte = (uint8_t)c;
            const int32_t at = from.length;
            auto first = [&](int limit) {  // the first word whose byte `at` is at least `limit`; a word that ends there has -1
                int32_t low = from.low, high = from.high;
                while (low < high) {
                    const int32_t middle = low + (high - low) / 2;
                    (this->byte(middle, at) < limit) ? low = middle + 1 : high = middle;
                }
                return low;
            };
            const int32_t low = first(byte), high = first(byte + 1);
            from = {low, high, at + 1};
        }
        return from;
    }
    int64_t word(Spelt spelt) const {  // its id, or -1
        return spelt.low < spelt.high && byte(spelt.low, spelt.length) < 0 ? spelt.low : -1;
    }
    bool known(int64_t word) const { return word >= 0 && word != begin_ && word != end_ && word != unknown_; }
    double unigram(int64_t word) const { return LN10 * (word < 0 ? ABSENT_UNKNOWN : (double)levels_[0].logp.data()[word]); }
    int64_t unknown() const { return unknown_; }
    State start() const {
        State state;
        if (begin_ >= 0 && levels_.size() > 1) state.rows[0] = begin_, state.count = 1;
        return state;
    }
    double score(int64_t word, const State& state, State& next) const {
        if (word < 0) word = unknown_;
        std::array<int64_t, CONTEXT + 1> rows{};
        rows[0] = word;
        int found = 0;
        double logp = word < 0 ? ABSENT_UNKNOWN : (double)levels_[0].logp.data()[word];
        for (int k = 1; k <= state.count; k++) {
            rows[k] = -1;
            const int64_t parent = state.rows[k - 1];
            if (parent < 0 || word < 0) continue;
            const Level& level = levels_[k];
            const int64_t key = (parent << SHIFT) | word;
            const int64_t *first = level.keys.data(), *last = first + level.keys.size(), *place = std::lower_bound(first, last, key);
            if (place != last && *place == key) rows[k] = place - first, logp = level.logp.data()[place - first], found = k;
        }
        for (int k = found; k < state.count; k++)
            if (state.rows[k] >= 0) logp += (double)levels_[k].backoff.data()[state.rows[k]];
        next.count = std::min<int>(state.count + 1, (int)levels_.size() - 1);
        while (next.count && rows[next.count - 1] < 0) next.count--;
        std::copy_n(rows.begin(), next.count, next.rows.begin());
        return logp * LN10;
    }

  private:
    int byte(int32_t word, int32_t at) const {
        const uint64_t place = starts_.data()[word] + at;
        return place < starts_.data()[word + 1] ? text_.data()[place] : -1;
    }
    Vec<uint64_t> starts_;
    Vec<uint8_t> text_;
    int64_t begin_, end_, unknown_;
    std::vector<Level> levels_;
};

}  // namespace slyther
