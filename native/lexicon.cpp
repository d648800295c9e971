// Beam search over CTC log-probabilities of phones: hypotheses walk a tree of the words' pronunciations, a word n-gram model
// scores the words. slyther_cli/decode/lexicon_beam.py's PlainLexiconBeam, step for step; there each step is explained.
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "words.h"

using namespace slyther;

namespace {

constexpr int PHONES = 39;  // units 1 to 39 begin a word, 40 to 78 go on in it
constexpr int VOCAB = 2 * PHONES + 1;

int count(uint64_t bits) { return __builtin_popcountll(bits); }
int lowest(uint64_t bits) { return __builtin_ctzll(bits); }

// The pronunciations as a tree; node 0 is its root. Children of a node lie in a row, by phone.
class Tree {
  public:
    // Word i has the phones [starts[i], starts[i + 1]) of `phones` (0 to 38); `names[i]` is what is written for it,
    // `model[i]` its place in the language model, -1 for none; `extra[i]` is added to its score.
    Tree(Vec<int64_t> starts, Vec<uint8_t> phones, Vec<int32_t> names, Vec<int32_t> model, Vec<double> extra) {
        const size_t n = names.size();
        if (starts.size() != n + 1 || model.size() != n || extra.size() != n) throw std::invalid_argument("one of each a pronunciation");
        for (size_t i = 0; i < n; i++) {
            const int64_t low = starts.data()[i], high = starts.data()[i + 1];
            if (low < 0 || high <= low || high > (int64_t)phones.size()) throw std::invalid_argument("a word without phones");
        }
        for (size_t i = 0; i < phones.size(); i++)
            if (phones.data()[i] >= PHONES) throw std::invalid_argument("no such phone");
        std::vector<int32_t> order(n);
        for (size_t i = 0; i < n; i++) order[i] = (int32_t)i;
        auto row = [&](int32_t i) { return std::make_pair(phones.data() + starts.data()[i], phones.data() + starts.data()[i + 1]); };
        std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
            auto [p, q] = row(a);
            auto [r, s] = row(b);
            return std::lexicographical_compare(p, q, r, s);
        });
        struct Span { size_t low, high; int64_t depth; };
        std::vector<Span> spans{{0, n, 0}};
        mask = {0}, first = {0}, phone = {0};
        for (size_t node = 0; node < spans.size(); node++) {
            auto [low, high, depth] = spans[node];
            ends.push_back((int32_t)words.size());
            auto length = [&](size_t i) { auto [p, q] = row(order[i]); return q - p; };
            for (; low < high && length(low) == depth; low++) words.push_back({names.data()[order[low]], model.data()[order[low]], extra.data()[order[low]]});
            first[node] = (int32_t)spans.size();
            while (low < high) {
                const uint8_t next = row(order[low]).first[depth];
                size_t stop = low;
                while (stop < high && row(order[stop]).first[depth] == next) stop++;
                mask[node] |= (uint64_t)1 << next;
                spans.push_back({low, stop, depth + 1});
                mask.push_back(0), first.push_back(0), phone.push_back(next);
                low = stop;
            }
        }
        ends.push_back((int32_t)words.size());
    }
    struct Entry { int32_t name, model; double extra; };
    int32_t child(int32_t node, int phone) const {
        return first[node] + count(mask[node] & (((uint64_t)1 << phone) - 1));
    }
    bool has(int32_t node, int phone) const { return mask[node] >> phone & 1; }
    bool closes(int32_t node) const { return ends[node] < ends[node + 1]; }
    int unit(int32_t node) const { return node ? 1 + phone[node] + (node < first[0] + count(mask[0]) ? 0 : PHONES) : BLANK; }
    size_t size() const { return mask.size(); }

    std::vector<uint64_t> mask;
    std::vector<int32_t> first, ends;
    std::vector<uint8_t> phone;
    std::vector<Entry> words;  // those of node i: [ends[i], ends[i + 1])
};

struct Trace {  // a phone of a hypothesis, after the phones before it
    Trace* parent;
    int unit, word;  // `word`: that which ended before this phone, or -1
    int64_t start, end;
    double peak;
    int refs = 0;
};

struct Hypothesis {
    State state;  // of the language model, before the open word
    int32_t node;
    double score_b = NEVER, score_n = NEVER, total = NEVER;  // with the language model's part
    double reached = NEVER;                                  // by what its trace tells of
    Trace* trace = nullptr;
};

struct Closing {
    double value;
    State after;
};

class LexiconBeam {
  public:
    LexiconBeam(nb::object tree, nb::object words, int beam, double beam_prune, double token_prune, double lm_weight, double word_bonus,
                int64_t lm_pause, int64_t max_delay)
        : held_(nb::make_tuple(tree, words)), tree_(*nb::cast<Tree*>(tree)), lm_(*nb::cast<Words*>(words)), beam_(beam), beam_prune_(beam_prune),
          token_prune_(token_prune), lm_weight_(lm_weight), word_bonus_(word_bonus), lm_pause_(lm_pause), max_delay_(max_delay), memory_(1 << 13) {
        look_ahead();
        root_ = make(nullptr, BLANK, -1, 0, 0, NEVER);
        Hypothesis start;
        start.state = lm_.start(), start.node = 0, start.score_b = start.total = 0;
        hold(start, root_);
        now_ = {start};
    }
    ~LexiconBeam() { for (Trace* trace : made_) delete trace; }
    LexiconBeam(const LexiconBeam&) = delete;
    LexiconBeam& operator=(const LexiconBeam&) = delete;

    std::vector<Token> feed(const Frames& log_probs) {
        std::vector<Token> done;
        if (log_probs.shape(1) != VOCAB) throw std::invalid_argument("the log-probabilities are not of phones");
        for (size_t i = 0; i < log_probs.shape(0); i++) {
            step(log_probs.data() + i * VOCAB);
            frame_++;
            settle(done);
        }
        return done;
    }
    std::vector<Token> partial() {
        auto [tokens, score] = best_path(false);
        return tokens;
    }
    std::tuple<std::vector<Token>, double> finish() { return best_path(true); }

  private:
    void look_ahead() {  // for every node, the best that a word below it may add by its unigram
        ahead_.assign(tree_.size(), NEVER);
        for (size_t node = tree_.size(); node-- > 0;) {
            double best = NEVER;
            for (int32_t i = tree_.ends[node]; i < tree_.ends[node + 1]; i++) {
                const auto& word = tree_.words[i];
                best = std::max(best, lm_weight_ * lm_.unigram(word.model < 0 ? lm_.unknown() : word.model) + word_bonus_ + word.extra);
            }
            for (int32_t c = 0; c < count(tree_.mask[node]); c++) best = std::max(best, ahead_[tree_.first[node] + c]);
            ahead_[node] = best;
        }
    }
    Trace* make(Trace* parent, int unit, int word, int64_t start, int64_t end, double peak) {
        Trace* trace;
        if (free_.empty()) made_.push_back(trace = new Trace);
        else trace = free_.back(), free_.pop_back();
        *trace = Trace{parent, unit, word, start, end, peak};
        if (parent) parent->refs++;
        return trace;
    }
    void release(Trace* trace) {
        while (trace && --trace->refs == 0) {
            Trace* parent = trace->parent;
            free_.push_back(trace);
            trace = parent;
        }
    }
    void hold(Hypothesis& one, Trace* trace) {
        trace->refs++;
        if (one.trace) release(one.trace);
        one.trace = trace;
    }
    uint64_t place(const State& state, int32_t node) const {
        uint64_t hash = (uint64_t)node * 0x9E3779B97F4A7C15u;
        for (int i = 0; i < state.count; i++) hash = (hash ^ (uint64_t)state.rows[i]) * 0x9E3779B97F4A7C15u, hash ^= hash >> 29;
        return hash ^ hash >> 32;
    }
    int find(const State& state, int32_t node, bool& fresh) {  // in next_; made where it is missing
        if (2 * (next_.size() + 1) > table_.size()) grow();
        uint64_t at = place(state, node) & (table_.size() - 1);
        for (; table_[at] >= 0; at = (at + 1) & (table_.size() - 1)) {
            const Hypothesis& one = next_[table_[at]];
            if (one.node == node && one.state == state) return fresh = false, table_[at];
        }
        table_[at] = (int)next_.size();
        Hypothesis one;
        one.state = state, one.node = node;
        next_.push_back(one);
        return fresh = true, table_[at];
    }
    void grow() {
        table_.assign(std::max<size_t>(1024, 2 * table_.size()), -1);
        for (size_t i = 0; i < next_.size(); i++) {
            uint64_t at = place(next_[i].state, next_[i].node) & (table_.size() - 1);
            while (table_[at] >= 0) at = (at + 1) & (table_.size() - 1);
            table_[at] = (int)i;
        }
    }
    const Closing& closing(const State& state, int32_t entry) {  // what the word adds after the state, the look-ahead not subtracted
        Memo& memo = memory_[place(state, entry) & (memory_.size() - 1)];
        if (memo.entry != entry || !(memo.state == state)) {
            const auto& word = tree_.words[entry];
            memo.entry = entry, memo.state = state;
            memo.closing.value = lm_weight_ * lm_.score(word.model, state, memo.closing.after) + word_bonus_ + word.extra;
        }
        return memo.closing;
    }
    void enter(const State& state, int32_t node, double value, double peak, Trace* before, int word) {
        bool fresh;
        Hypothesis& one = next_[find(state, node, fresh)];
        if (value > one.reached) {
            hold(one, make(before, tree_.unit(node), word, frame_, frame_ + 1, peak));
            one.reached = value;
        }
        one.score_n = sum(one.score_n, value);
        best_ = std::max(best_, value);
    }
    void step(const double* row) {
        const double* top = std::max_element(row, row + VOCAB);
        if (!std::isfinite(*top)) return;  // no unit is possible at all; the frame is passed over
        auto tried = [&](int unit) { return std::isfinite(row[unit]) && (row[unit] >= token_prune_ || row + unit == top); };
        uint64_t first = 0, inner = 0;
        double loudest = NEVER;  // of the units that begin a word
        for (int p = 0; p < PHONES; p++) {
            if (tried(1 + p)) first |= (uint64_t)1 << p, loudest = std::max(loudest, row[1 + p]);
            if (tried(1 + PHONES + p)) inner |= (uint64_t)1 << p;
        }
        const double blank = tried(BLANK) ? row[BLANK] : NEVER;
        next_.clear();
        table_.assign(std::max<size_t>(1024, table_.size()), -1);
        best_ = NEVER;
        for (const Hypothesis& one : now_) {  // blank, or the same phone goes on
            const int unit = tree_.unit(one.node);
            const double b = one.total + blank, n = unit && tried(unit) ? one.score_n + row[unit] : NEVER;
            if (std::max(b, n) == NEVER) continue;
            bool fresh;
            Hypothesis& stays = next_[find(one.state, one.node, fresh)];
            stays.score_b = b, stays.score_n = n, stays.reached = sum(b, n);
            hold(stays, one.trace);
            if (n > b) one.trace->end = frame_ + 1;
            best_ = std::max(best_, std::max(b, n));
        }
        for (const Hypothesis& one : now_) {
            const int unit = tree_.unit(one.node);
            if (one.node) {
                const double ahead = ahead_[one.node];
                for (uint64_t rest = tree_.mask[one.node] & inner; rest; rest &= rest - 1) {
                    const int p = lowest(rest), said = 1 + PHONES + p;
                    const int32_t child = tree_.child(one.node, p);
                    const double value = (said == unit ? one.score_b : one.total) + row[said] + ahead_[child] - ahead;
                    if (value >= best_ + beam_prune_ && value > NEVER) enter(one.state, child, value, row[said], one.trace, -1);
                }
            }
            if (!first || (one.node && !tree_.closes(one.node))) continue;
            if (!one.node) {
                begin(one, one.state, 0, -1, first, row);
                continue;
            }
            if (one.total + loudest + ahead_[0] < best_ + beam_prune_ - SLACK) continue;
            const bool paused = lm_pause_ >= 0 && frame_ - one.trace->end >= lm_pause_;
            for (int32_t entry = tree_.ends[one.node]; entry < tree_.ends[one.node + 1]; entry++) {
                const Closing& closed = closing(one.state, entry);
                const State after = paused ? lm_.start() : closed.after;
                begin(one, after, closed.value - ahead_[one.node], tree_.words[entry].name, first, row);
            }
        }
        prune();
    }
    void begin(const Hypothesis& one, const State& state, double added, int word, uint64_t first, const double* row) {
        const int unit = tree_.unit(one.node);
        for (uint64_t rest = tree_.mask[0] & first; rest; rest &= rest - 1) {
            const int p = lowest(rest), said = 1 + p;
            const int32_t child = tree_.child(0, p);
            const double value = (said == unit ? one.score_b : one.total) + added + row[said] + ahead_[child];
            if (value >= best_ + beam_prune_ && value > NEVER) enter(state, child, value, row[said], one.trace, word);
        }
    }
    void prune() {
        double top = NEVER;
        for (Hypothesis& one : next_) {
            one.total = sum(one.score_b, one.score_n);
            top = std::max(top, one.total);
        }
        if (next_.empty()) return;
        size_t kept = 0;
        for (size_t i = 0; i < next_.size(); i++) {
            if (next_[i].total >= top + beam_prune_) std::swap(next_[kept++], next_[i]);
            else release(next_[i].trace);
        }
        next_.resize(kept);
        auto better = [](const Hypothesis& a, const Hypothesis& b) { return a.total > b.total; };
        if ((int)kept > beam_) {
            std::nth_element(next_.begin(), next_.begin() + beam_, next_.end(), better);
            for (size_t i = beam_; i < kept; i++) release(next_[i].trace);
            next_.resize(beam_);
        }
        for (Hypothesis& one : next_) one.score_b -= top, one.score_n -= top, one.total -= top;
        shift_ += top;
        for (Hypothesis& one : now_) release(one.trace);
        std::swap(now_, next_);
    }
    const Hypothesis& best() const {
        return *std::max_element(now_.begin(), now_.end(), [](const Hypothesis& a, const Hypothesis& b) { return a.total < b.total; });
    }
    void settle(std::vector<Token>& done) {  // gives out what all hypotheses share; breaks a tie that has stood too long
        for (;;) {
            path_.clear();
            for (Trace* trace = best().trace; trace != root_; trace = trace->parent) path_.push_back(trace);
            while (!path_.empty() && root_->refs == 1) advance(path_.back(), done), path_.pop_back();
            if (max_delay_ < 0 || path_.empty() || path_.back()->start > frame_ - max_delay_) return;
            Trace* branch = path_.back();
            size_t kept = 0;
            for (size_t i = 0; i < now_.size(); i++) {
                Trace* trace = now_[i].trace;
                while (trace != root_ && trace != branch) trace = trace->parent;
                if (trace == branch) std::swap(now_[kept++], now_[i]);
            }
            for (size_t i = kept; i < now_.size(); i++) release(now_[i].trace);
            now_.resize(kept);
        }
    }
    void advance(Trace* child, std::vector<Token>& done) {  // it becomes the root, since nothing else hangs on the root
        if (!open_.empty()) std::get<2>(open_.back()) = root_->end;  // it may have gone on
        close(open_, child->word, child->start, done);
        open_.push_back({child->unit, child->start, child->end, child->peak});
        Trace* before = root_;
        root_ = child;
        child->parent = nullptr;
        free_.push_back(before);
    }
    // Gives out the phones of a word that ended before `latest`; -1: none has ended.
    void close(std::vector<Token>& open, int word, int64_t latest, std::vector<Token>& done) {
        if (word < 0) return;
        for (size_t i = 0; i < open.size(); i++) {
            auto [unit, start, end, peak] = open[i];
            const int64_t bound = i + 1 < open.size() ? std::get<1>(open[i + 1]) : latest;
            start = std::max(start, given_);
            end = std::min(std::max(std::min(end, bound), start + 1), frame_);
            given_ = end;
            done.push_back({i ? unit : unit + VOCAB * (word + 1), std::min(start, end), end, peak});
        }
        open.clear();
    }
    std::tuple<std::vector<Token>, double> best_path(bool last) {
        const Hypothesis* chosen = nullptr;
        double most = NEVER;
        int word = -1;
        for (const Hypothesis& one : now_) {
            if (!one.node && one.total > most) chosen = &one, most = one.total, word = -1;
            for (int32_t entry = tree_.ends[one.node]; entry < tree_.ends[one.node + 1]; entry++) {
                const double value = one.total + closing(one.state, entry).value - ahead_[one.node];
                if (value > most) chosen = &one, most = value, word = tree_.words[entry].name;
            }
        }
        if (!chosen || (!last && best().total > chosen->total)) chosen = &best(), word = -1;
        std::vector<Token> done, open = open_;
        if (!open.empty()) std::get<2>(open.back()) = root_->end;
        const int64_t given = given_;
        path_.clear();
        for (Trace* trace = chosen->trace; trace != root_; trace = trace->parent) path_.push_back(trace);
        for (; !path_.empty(); path_.pop_back()) {
            Trace* trace = path_.back();
            close(open, trace->word, trace->start, done);
            open.push_back({trace->unit, trace->start, trace->end, trace->peak});
        }
        close(open, word, frame_, done);
        given_ = given;
        return {done, most + shift_};
    }

    struct Memo { int32_t entry = -1; State state; Closing closing; };
    static constexpr double SLACK = 20;  // by how much a word may do better than its look-ahead, at most
    nb::object held_;
    const Tree& tree_;
    const Words& lm_;
    int beam_;
    double beam_prune_, token_prune_, lm_weight_, word_bonus_;
    int64_t lm_pause_, max_delay_, frame_ = 0, given_ = 0;
    double best_ = NEVER, shift_ = 0;
    std::vector<double> ahead_;
    std::vector<Memo> memory_;
    Trace* root_;
    std::vector<Trace*> made_, free_, path_;
    std::vector<Hypothesis> now_, next_;
    std::vector<int> table_;
    std::vector<Token> open_;  // phones that are final, of a word that is not
};

}  // namespace

void bind_lexicon(nb::module_& m) {
    nb::class_<Tree>(m, "LexiconTree")
        .def(nb::init<Vec<int64_t>, Vec<uint8_t>, Vec<int32_t>, Vec<int32_t>, Vec<double>>())
        .def("__len__", &Tree::size);
    nb::class_<LexiconBeam>(m, "LexiconBeam")
        .def(nb::init<nb::object, nb::object, int, double, double, double, double, int64_t, int64_t>(), nb::arg("tree"), nb::arg("words"),
             nb::arg("beam"), nb::arg("beam_prune"), nb::arg("token_prune"), nb::arg("lm_weight"), nb::arg("word_bonus"), nb::arg("lm_pause"),
             nb::arg("max_delay"))
        .def("feed", &LexiconBeam::feed)
        .def("partial", &LexiconBeam::partial)
        .def("finish", &LexiconBeam::finish);
}
