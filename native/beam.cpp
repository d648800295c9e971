// Prefix beam search over CTC log-probabilities with a word n-gram model: slyther_cli/decode/ctc.py's BeamDecoder, step for
// step, so that both give the same tokens. There each step is explained; here it is fast.
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "words.h"

using namespace slyther;

namespace {

struct Node {
    Node* parent;
    int id;
    bool alive = false, owing = false, closed = false;
    std::vector<Node*> children;  // in the order in which they came
    double score_b = NEVER, score_n = NEVER, total = NEVER, peak = NEVER, fixed = 0, owed = 0, bonus = 0, closing = 0;
    int64_t start = 0, end = 0;
    Spelt spelt;
    State state, after;  // of the language model: before the open word, and once it is finished
    double rank() const { return total + bonus; }
    bool like(const Node& other) const {  // the same sounds would add the same to both
        return id == other.id && owing == other.owing && owed == other.owed && state == other.state && (owing || spelt == other.spelt);
    }
    uint64_t likeness() const {  // equal where `like` is true
        uint64_t hash = id;
        auto mix = [&](uint64_t more) { hash = (hash ^ more) * 0x9E3779B97F4A7C15u, hash ^= hash >> 29; };
        if (!owing) mix(spelt.low), mix((uint64_t)spelt.high << 32 | spelt.length);
        for (int i = 0; i < state.count; i++) mix(state.rows[i]);
        return hash;
    }
    bool above(const Node& other) const {
        return score_b + bonus >= other.score_b + other.bonus && score_n + bonus >= other.score_n + other.bonus;
    }
};

class Beam {
  public:
    Beam(int beam, double beam_prune, double token_prune, std::vector<std::string> surfaces, std::vector<std::string> stripped,
         std::vector<bool> begins, nb::object words,
         double lm_weight, double word_bonus, double unknown_bonus, double unknown_letter_bonus, int64_t lm_pause, int64_t max_delay, bool merge)
        : beam_(beam), beam_prune_(beam_prune), token_prune_(token_prune), surfaces_(std::move(surfaces)), stripped_(std::move(stripped)),
          begins_(std::move(begins)),
          held_(words), words_(words.is_none() ? nullptr : nb::cast<Words*>(words)), lm_weight_(lm_weight), word_bonus_(word_bonus),
          unknown_bonus_(unknown_bonus), unknown_letter_bonus_(unknown_letter_bonus), lm_pause_(lm_pause), max_delay_(max_delay), merging_(merge && words_) {
        if (beam < 1) throw std::invalid_argument("a beam must be 1 or wider");
        if (words_ && words_->empty()) throw std::invalid_argument("a language model without words");
        if (words_ && (stripped_.size() != surfaces_.size() || begins_.size() != surfaces_.size()))
            throw std::invalid_argument("an alphabet's tokens are given in lists of different lengths");
        hope_ = words_ ? std::max(word_bonus, 0.0) + 2 * std::max(unknown_bonus, 0.0) : 0.0;
        root_ = make(nullptr, BLANK);
        root_->alive = true, root_->score_b = root_->total = 0;
        if (words_) root_->state = words_->start(), root_->spelt = words_->all();
        beams_ = {root_};
    }
    ~Beam() { for (Node* node : made_) delete node; }
    Beam(const Beam&) = delete;
    Beam& operator=(const Beam&) = delete;

    std::vector<Token> feed(const Frames& log_probs) {
        std::vector<Token> done;
        const size_t n = log_probs.shape(0), vocab = log_probs.shape(1);
        if (words_ && vocab != surfaces_.size()) throw std::invalid_argument("the alphabet has another size than the log-probabilities");
        if (frame_ && vocab != loud_.size()) throw std::invalid_argument("log-probabilities have another width than before");
        loud_.resize(vocab);
        for (size_t i = 0; i < n; i++) {
            const double* row = log_probs.data() + i * vocab;
            const double* best = std::max_element(row, row + vocab);
            heard_.clear();
            for (size_t token = 0; token < vocab; token++)
                if (std::isfinite(row[token]) && (row[token] >= token_prune_ || row + token == best))
                    heard_.push_back({(int)token, row[token]});
            if (heard_.size() == 1 && heard_[0].first == BLANK) blank(heard_[0].second);
            else if (!heard_.empty()) step();
            frame_++;
            settle(done);
        }
        return done;
    }
    std::vector<Token> partial() { return path(best()); }
    std::tuple<std::vector<Token>, double> finish() {
        if (words_)
            for (Node* node : beams_) node->bonus = closed(node);
        Node* node = best();
        auto tokens = path(node);
        const double score = node->total + node->bonus + shift_;
        root_->children.clear();
        beams_ = {root_};
        return {tokens, score};
    }

  private:
    Node* make(Node* parent, int id) {
        Node* node;
        if (free_.empty()) made_.push_back(node = new Node{parent, id});
        else {
            node = free_.back(), free_.pop_back();
            auto children = std::move(node->children);
            children.clear();
            *node = Node{parent, id};
            node->children = std::move(children);
        }
        return node;
    }
    static Node* child_of(Node* node, int token) {
        for (Node* child : node->children)
            if (child->id == token) return child;
        return nullptr;
    }
    Node* best() const {
        Node* top = beams_[0];
        for (Node* node : beams_)
            if (node->rank() > top->rank()) top = node;
        return top;
    }
    std::vector<Token> path(Node* node) {
        std::vector<Node*> nodes;
        for (; node != root_; node = node->parent) nodes.push_back(node);
        std::reverse(nodes.begin(), nodes.end());
        const int64_t given = given_;
        std::vector<Token> tokens;
        for (size_t i = 0; i < nodes.size(); i++)
            tokens.push_back(timed(nodes[i], i + 1 < nodes.size() ? nodes[i + 1]->start : frame_));
        given_ = given;
        return tokens;
    }
    void blank(double value) {
        if (!still_)
            for (Node* node : beams_) node->score_b = node->total, node->score_n = NEVER;
        still_ = true;
        shift_ += value;
    }
    void step() {
        double blank = NEVER;
        order_.clear();
        for (auto& one : heard_) (one.first == BLANK) ? void(blank = one.second) : order_.push_back(one);
        std::fill(loud_.begin(), loud_.end(), NEVER);
        for (auto& [token, value] : order_) loud_[token] = value;
        std::stable_sort(order_.begin(), order_.end(), [](auto& a, auto& b) { return a.second > b.second; });
        old_.clear();
        double best = NEVER;
        for (Node* node : beams_) {
            old_.push_back({node, node->score_b, node->total});
            node->score_b = node->total + blank;
            node->score_n = node->score_n + (node->id == BLANK ? NEVER : loud_[node->id]);
            if (node->score_n > node->score_b) node->end = frame_ + 1;
            best = std::max(best, std::max(node->score_b, node->score_n) + node->bonus);
        }
        for (auto& [token, value] : order_)
            for (auto& [node, score_b, total] : old_) {
                const double entering = (token == node->id ? score_b : total) + value;
                if (entering == NEVER) continue;
                Node* child = child_of(node, token);
                if (!child || !child->alive) {
                    if (entering + node->bonus + hope_ < best + beam_prune_) continue;
                    if (!child) child = extend(node, token);
                    child->alive = true, child->score_b = child->score_n = child->total = NEVER;
                    beams_.push_back(child);
                    best = std::max(best, entering + child->bonus);
                }
                if (entering > sum(child->score_b, child->score_n)) child->start = frame_, child->end = frame_ + 1, child->peak = value;
                child->score_n = sum(child->score_n, entering);
            }
        still_ = false;
        prune();
    }
    void prune() {
        double top = NEVER;
        for (Node* node : beams_) {
            node->total = sum(node->score_b, node->score_n);
            top = std::max(top, node->rank());
        }
        const double lowest = top + beam_prune_;
        kept_.clear();
        for (Node* node : beams_)
            if (node->rank() >= lowest && node->total > NEVER) kept_.push_back(node);
        if (merging_ || (int)kept_.size() > beam_)
            std::stable_sort(kept_.begin(), kept_.end(), [](Node* a, Node* b) { return a->rank() > b->rank(); });
        if (merging_) merge();
        if ((int)kept_.size() > beam_) kept_.resize(beam_);
        for (Node* node : beams_) node->alive = false;
        for (Node* node : kept_) node->alive = true;
        dropped_.clear();
        for (Node* node : beams_)
            if (!node->alive) dropped_.push_back(node);
        drop();
        std::swap(beams_, kept_);
        double loudest = NEVER;
        for (Node* node : beams_) loudest = std::max(loudest, node->total);
        shift_ += loudest;
        for (Node* node : beams_) node->score_b -= loudest, node->score_n -= loudest, node->total -= loudest;
    }
    void merge() {  // of those that will fare alike from now on, keeps the best
        size_t size = 16;
        while (size < 2 * kept_.size()) size *= 2;
        table_.assign(size, nullptr);
        size_t count = 0;
        for (Node* node : kept_) {
            size_t place = node->likeness() & (size - 1);
            for (; table_[place]; place = (place + 1) & (size - 1))
                if (table_[place]->like(*node) && table_[place]->above(*node)) break;
            if (table_[place]) continue;
            table_[place] = node;
            kept_[count++] = node;
        }
        kept_.resize(count);
    }
    void drop() {  // forgets what only the dropped ones needed; a node whose parent went is not met again
        for (Node* node : dropped_) node->alive = false;
        for (Node* node : dropped_)
            while (node && !node->alive && node->children.empty() && node->parent) {
                Node* parent = node->parent;
                auto place = std::find(parent->children.begin(), parent->children.end(), node);
                if (place == parent->children.end()) break;
                parent->children.erase(place);
                node->parent = nullptr;
                free_.push_back(node);
                node = parent;
            }
    }
    void settle(std::vector<Token>& done) {
        for (;;) {
            while (!root_->alive && root_->children.size() == 1) {
                Node* child = root_->children[0];
                if (child->alive && child->score_n >= child->score_b) break;
                advance(child, done);
            }
            if (max_delay_ < 0) return;
            const int64_t oldest = frame_ - max_delay_;
            if (std::all_of(root_->children.begin(), root_->children.end(), [&](Node* child) { return child->start > oldest; })) return;
            Node *node = best(), *branch = node;
            while (node != root_) branch = node, node = node->parent;
            dropped_.clear();
            if (branch == root_) {
                for (Node* one : beams_)
                    if (one != branch) dropped_.push_back(one);
                beams_ = {branch};
                drop();
                return;
            }
            kept_.clear();
            for (Node* one : beams_) {
                Node* top = one;
                while (top && top != branch) top = top->parent;
                (top ? kept_ : dropped_).push_back(one);
            }
            std::swap(beams_, kept_);
            drop();
            advance(branch, done);
        }
    }
    void advance(Node* child, std::vector<Token>& done) {
        Node* before = root_;
        root_ = child;
        child->parent = nullptr;
        before->children.clear();
        free_.push_back(before);
        int64_t latest = frame_;
        if (!child->alive)
            for (Node* next : child->children) latest = std::min(latest, next->start);
        done.push_back(timed(child, latest));
    }
    Token timed(Node* node, int64_t latest) {
        const int64_t start = std::max(node->start, given_);
        const int64_t end = std::min(std::max(std::min(node->end, latest), start + 1), frame_);
        given_ = end;
        return {node->id, std::min(start, end), end, node->peak};
    }
    Node* extend(Node* node, int token) {
        Node* child = make(node, token);
        node->children.push_back(child);
        if (!words_) return child;
        const bool paused = lm_pause_ >= 0 && frame_ - node->end >= lm_pause_, begins = paused || begins_[token];
        if (begins) {
            child->fixed = closed(node);
            child->state = node->after;
            child->spelt = words_->narrowed(words_->all(), stripped_[token]);
        } else {
            child->fixed = node->fixed, child->state = node->state;
            child->spelt = words_->narrowed(node->spelt, surfaces_[token]);
        }
        if (paused) child->state = words_->start();
        if (node->owing && !begins) child->owing = true, child->owed = node->owed + unknown_letter_bonus_;
        else if (child->spelt.length && child->spelt.low == child->spelt.high) child->owing = true, child->owed = unknown_bonus_;
        child->bonus = child->fixed + child->owed;
        return child;
    }
    double closed(Node* node) {  // language score, and in `after` the state, once the open word is finished
        if (node->closed) return node->closing;
        node->closed = true, node->after = node->state, node->closing = node->fixed;
        if (!words_ || !node->spelt.length) return node->closing;
        const int64_t word = words_->word(node->spelt);
        double value = lm_weight_ * words_->score(word, node->state, node->after) + word_bonus_;
        if (!words_->known(word)) value += node->owing ? node->owed : unknown_bonus_;
        return node->closing = node->fixed + value;
    }

    int beam_;
    double beam_prune_, token_prune_;
    std::vector<std::string> surfaces_, stripped_;
    std::vector<bool> begins_;
    nb::object held_;
    Words* words_;
    double lm_weight_, word_bonus_, unknown_bonus_, unknown_letter_bonus_;
    int64_t lm_pause_, max_delay_;
    bool merging_;
    double hope_, shift_ = 0;
    int64_t frame_ = 0, given_ = 0;
    bool still_ = false;
    Node* root_;
    std::vector<Node*> made_, free_, beams_, kept_, dropped_, table_;
    std::vector<std::pair<int, double>> heard_, order_;
    std::vector<double> loud_;
    std::vector<std::tuple<Node*, double, double>> old_;
};

}  // namespace

void bind_beam(nb::module_& m) {
    nb::class_<Words>(m, "Words")
        .def(nb::init<Vec<uint64_t>, Vec<uint8_t>, int64_t, int64_t, int64_t>())
        .def("add_level", &Words::add_level);
    nb::class_<Beam>(m, "Beam")
        .def(nb::init<int, double, double, std::vector<std::string>, std::vector<std::string>, std::vector<bool>, nb::object, double, double, double, double, int64_t, int64_t, bool>(),
             nb::arg("beam"), nb::arg("beam_prune"), nb::arg("token_prune"), nb::arg("surfaces"), nb::arg("stripped"), nb::arg("begins"),
             nb::arg("words").none(), nb::arg("lm_weight"), nb::arg("word_bonus"), nb::arg("unknown_bonus"), nb::arg("unknown_letter_bonus"), nb::arg("lm_pause"), nb::arg("max_delay"), nb::arg("merge"))
        .def("feed", &Beam::feed)
        .def("partial", &Beam::partial)
        .def("finish", &Beam::finish);
}
