/* The load of the benchmarks on raw sockets, built at run time by native.py and called through cffi.
 *
 * cast: one publisher, many members. Each message carries a number in 16 hexadecimal digits. A member that checks reads
 * every byte and wants exactly the next number each time; one that does not lets the kernel throw the bytes away
 * (MSG_TRUNC) and counts them, so that at full speed the load costs less than any server. Late is counted from when
 * a message was due, not from when it was written: a load that waits for the server would hide the server's pauses.
 *
 * pairs: many casts of one member each, all in one loop. Each sender goes on when its own receiver has what it sent.
 *
 * talk: many connections that each say the steps of a conversation and wait for the answer to each.
 *
 * Needs Linux 5.11 (epoll_pwait2). load_python.py does the same in Python.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DIGITS 16
#define MAX_DELIVERY 4096
#define MAX_EVENTS 1024
#define READ_BYTES (1 << 20)
/* Enough for a header; what comes with it of the payload is copied although nobody looks at it. */
#define HEADER_READ_BYTES 16
#define BLOCK_BYTES (1 << 16)
/* How many messages may be on their way when they are timed: 65 seconds of the fastest paced scenario. */
#define DUE_SLOTS (1 << 16)
/* 32 steps for each power of two of nanoseconds: a step is at most 3 % wide. */
#define HISTOGRAM_BITS 5
#define HISTOGRAM_SLOTS (64 << HISTOGRAM_BITS)
#define MAX_STEPS 8

static uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static int wait_events(int poll, struct epoll_event *events, uint64_t wait_ns) {
    struct timespec wait = {(time_t)(wait_ns / 1000000000u), (long)(wait_ns % 1000000000u)};
    return epoll_pwait2(poll, events, MAX_EVENTS, &wait, NULL);
}

static void watch(int poll, int how, int socket, uint32_t events, uint64_t index) {
    struct epoll_event event = {.events = events, .data.u64 = index};
    epoll_ctl(poll, how, socket, &event);
}

static unsigned histogram_slot(uint64_t value) {
    if (value < (1u << HISTOGRAM_BITS)) return (unsigned)value;
    unsigned power = 63u - (unsigned)__builtin_clzll(value);
    unsigned step = (unsigned)(value >> (power - HISTOGRAM_BITS)) & ((1u << HISTOGRAM_BITS) - 1);
    return ((power - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS) + step;
}

/* One publisher, many members. */

struct cast_figures {
    uint64_t sent;
    uint64_t bytes;
    uint64_t wrong;
    uint64_t closed;
    uint64_t histogram[HISTOGRAM_SLOTS];
};

struct cast_job {
    int publisher;
    const int *members;
    uint32_t member_count;
    uint32_t check_every;
    const uint8_t *message;
    uint32_t message_bytes;
    uint32_t message_digits_at;
    uint8_t digit_mask[DIGITS];
    const uint8_t *delivery;
    uint32_t delivery_bytes;
    uint32_t delivery_digits_at;
    int is_websocket;
    const uint8_t *ignored;
    uint32_t ignored_bytes;
    /* In a delivery, before its number: so many bytes are different each time. */
    uint32_t varying_at;
    uint32_t varying_bytes;
};

struct member {
    int socket;
    int checks;
    uint64_t next;
    uint32_t held;
    uint8_t header[14];
    uint32_t header_held;
    uint64_t left;
    int is_control;
    uint8_t *carry;
};

struct cast {
    struct cast_job job;
    struct cast_figures figures;
    int poll;
    /* What epoll calls the first member; the publisher comes after the last one. */
    uint64_t first_index;
    struct member *members;
    uint8_t *block;
    uint64_t block_at, block_end;
    int is_blocked;
    uint64_t *due;
    uint64_t timed_from, timed_to;
    uint64_t read_at;
};

static void put_digits(uint8_t *to, uint64_t number, const uint8_t *mask) {
    for (int index = 0; index < DIGITS; index++)
        to[index] = (uint8_t)"0123456789abcdef"[(number >> (4 * (DIGITS - 1 - index))) & 15] ^ mask[index];
}

static uint64_t get_digits(const uint8_t *from) {
    uint64_t number = 0;
    for (int index = 0; index < DIGITS; index++)
        number = number << 4 | (uint64_t)(from[index] <= '9' ? from[index] - '0' : from[index] - 'a' + 10);
    return number;
}

static uint8_t read_buffer[READ_BYTES];

static void cast_drop(struct cast *cast) {
    for (uint32_t index = 0; cast->members && index < cast->job.member_count; index++) free(cast->members[index].carry);
    free(cast->members);
    free(cast->block);
    free(cast->due);
}

/* Message 0 has been sent and has come everywhere, or is about to; what of it was read already is no more counted.
 * Returns whether there was memory. */
static int cast_make(struct cast *cast, const struct cast_job *job, int poll, uint64_t first_index) {
    cast->job = *job;
    cast->poll = poll;
    cast->first_index = first_index;
    cast->members = calloc(job->member_count, sizeof *cast->members);
    cast->block = malloc(BLOCK_BYTES);
    cast->due = calloc(DUE_SLOTS, sizeof *cast->due);
    if (poll < 0 || !cast->members || !cast->block || !cast->due || job->delivery_bytes > MAX_DELIVERY) return 0;
    cast->figures.sent = 1;
    for (uint32_t index = 0; index < job->member_count; index++) {
        struct member *member = &cast->members[index];
        member->socket = job->members[index];
        member->checks = job->check_every && index % job->check_every == 0;
        member->next = 1;
        member->carry = malloc(job->delivery_bytes);
        if (!member->carry) return 0;
        cast->figures.bytes += job->delivery_bytes;
        watch(poll, EPOLL_CTL_ADD, member->socket, EPOLLIN, first_index + index);
    }
    watch(poll, EPOLL_CTL_ADD, job->publisher, EPOLLIN, first_index + job->member_count);
    return 1;
}

void cast_free(struct cast *cast) {
    cast_drop(cast);
    close(cast->poll);
    free(cast);
}

struct cast *cast_new(const struct cast_job *job) {
    struct cast *cast = calloc(1, sizeof *cast);
    if (!cast) return NULL;
    if (cast_make(cast, job, epoll_create1(EPOLL_CLOEXEC), 0)) return cast;
    cast_free(cast);
    return NULL;
}

struct cast_figures *cast_figures(struct cast *cast) { return &cast->figures; }

static void check_delivery(struct cast *cast, struct member *member, const uint8_t *delivery) {
    const struct cast_job *job = &cast->job;
    uint64_t number = get_digits(delivery + job->delivery_digits_at);
    uint32_t fixed = job->varying_at + job->varying_bytes;
    uint32_t rest = job->delivery_digits_at + DIGITS;
    if (number != member->next || memcmp(delivery, job->delivery, job->varying_at) ||
        memcmp(delivery + fixed, job->delivery + fixed, job->delivery_digits_at - fixed) ||
        memcmp(delivery + rest, job->delivery + rest, job->delivery_bytes - rest))
        cast->figures.wrong++;
    member->next = number + 1;
    if (number >= cast->timed_from && number < cast->timed_to) {
        uint64_t due = cast->due[number % DUE_SLOTS];
        cast->figures.histogram[histogram_slot(cast->read_at > due ? cast->read_at - due : 0)]++;
    }
}

static void take_payload(struct cast *cast, struct member *member, const uint8_t *data, uint64_t size) {
    const struct cast_job *job = &cast->job;
    cast->figures.bytes += size;
    if (!member->checks) return;
    while (size) {
        if (!member->held && size >= job->delivery_bytes && data[0] == job->delivery[0]) {
            check_delivery(cast, member, data);
            data += job->delivery_bytes;
            size -= job->delivery_bytes;
            continue;
        }
        member->carry[member->held++] = *data++;
        size--;
        if (job->ignored_bytes && member->held == job->ignored_bytes &&
            !memcmp(member->carry, job->ignored, job->ignored_bytes)) {
            cast->figures.bytes -= job->ignored_bytes;
            member->held = 0;
        } else if (member->held == job->delivery_bytes) {
            check_delivery(cast, member, member->carry);
            member->held = 0;
        }
    }
}

/* A server's header has 2, 4 or 10 bytes. Returns whether it is whole. */
static int take_header_byte(struct member *member, uint8_t byte) {
    member->header[member->header_held++] = byte;
    if (member->header_held < 2) return 0;
    uint8_t length = member->header[1] & 127;
    uint32_t size = length < 126 ? 2 : length == 126 ? 4 : 10;
    if (member->header_held < size) return 0;
    member->left = length < 126 ? length : 0;
    for (uint32_t index = 2; index < size; index++) member->left = member->left << 8 | member->header[index];
    member->is_control = (member->header[0] & 15) >= 8;
    member->header_held = 0;
    return 1;
}

static void take_websocket(struct cast *cast, struct member *member, const uint8_t *data, uint64_t size) {
    while (size) {
        if (!member->left) {
            take_header_byte(member, *data++);
            size--;
            continue;
        }
        uint64_t part = member->left < size ? member->left : size;
        if (!member->is_control) take_payload(cast, member, data, part);
        member->left -= part;
        data += part;
        size -= part;
    }
}

/* Returns how many bytes came; 0: there is nothing to be had now, or no more. */
static uint64_t receive(struct cast *cast, struct member *member, uint64_t size, int flags) {
    ssize_t came = recv(member->socket, read_buffer, size, MSG_DONTWAIT | flags);
    if (came > 0) {
        cast->read_at = now_ns();
        return (uint64_t)came;
    }
    if (came == 0 || (errno != EAGAIN && errno != EINTR)) {
        cast->figures.closed++;
        epoll_ctl(cast->poll, EPOLL_CTL_DEL, member->socket, NULL);
    }
    return 0;
}

/* Headers are read, what they are of is thrown away in the kernel, as all is that comes by TCP. */
static void count_websocket(struct cast *cast, struct member *member) {
    uint64_t size, came;
    do {
        uint64_t left = member->left;
        size = left ? left < READ_BYTES ? left : READ_BYTES : HEADER_READ_BYTES;
        came = receive(cast, member, size, left ? MSG_TRUNC : 0);
        if (!left)
            take_websocket(cast, member, read_buffer, came);
        else {
            if (!member->is_control) cast->figures.bytes += came;
            member->left -= came;
        }
    } while (came == size);
}

static void read_member(struct cast *cast, struct member *member) {
    int is_counted = !member->checks;
    if (is_counted && cast->job.is_websocket) {
        count_websocket(cast, member);
        return;
    }
    uint64_t size = receive(cast, member, READ_BYTES, is_counted ? MSG_TRUNC : 0);
    if (!size) return;
    if (is_counted)
        cast->figures.bytes += size;
    else if (cast->job.is_websocket)
        take_websocket(cast, member, read_buffer, size);
    else
        take_payload(cast, member, read_buffer, size);
}

static void write_block(struct cast *cast) {
    while (cast->block_at < cast->block_end) {
        ssize_t size = send(cast->job.publisher, cast->block + cast->block_at, cast->block_end - cast->block_at,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (size <= 0) break;
        cast->block_at += (uint64_t)size;
    }
    int is_blocked = cast->block_at < cast->block_end;
    if (is_blocked != cast->is_blocked)
        watch(cast->poll, EPOLL_CTL_MOD, cast->job.publisher, EPOLLIN | (is_blocked ? EPOLLOUT : 0),
              cast->first_index + cast->job.member_count);
    cast->is_blocked = is_blocked;
}

static void publish(struct cast *cast, uint64_t count) {
    const struct cast_job *job = &cast->job;
    if (count > BLOCK_BYTES / job->message_bytes) count = BLOCK_BYTES / job->message_bytes;
    cast->block_at = cast->block_end = 0;
    for (uint64_t index = 0; index < count; index++) {
        uint8_t *message = cast->block + cast->block_end;
        memcpy(message, job->message, job->message_bytes);
        put_digits(message + job->message_digits_at, cast->figures.sent++, job->digit_mask);
        cast->block_end += job->message_bytes;
    }
    write_block(cast);
}

static uint64_t wanted_bytes(const struct cast *cast) {
    return cast->figures.sent * cast->job.member_count * cast->job.delivery_bytes;
}

/* How many messages may go now. At full speed a quarter of the window at a time, as fewer would be written one by one. */
static uint64_t saturating(const struct cast *cast, uint64_t window) {
    uint64_t one = (uint64_t)cast->job.member_count * cast->job.delivery_bytes;
    uint64_t came = cast->figures.bytes / one;
    uint64_t away = cast->figures.sent > came ? cast->figures.sent - came : 0;
    uint64_t room = away < window ? window - away : 0;
    return room >= (window + 3) / 4 ? room : 0;
}

static void time_from_now(struct cast *cast, int is_timed) {
    if (is_timed) {
        cast->timed_from = cast->figures.sent;
        cast->timed_to = UINT64_MAX;
    } else if (cast->timed_to == UINT64_MAX)
        cast->timed_to = cast->figures.sent;
}

/* What the publisher gets is thrown away. Returns whether its connection is there. */
static int serve_publisher(struct cast *cast, uint32_t events) {
    if (events & EPOLLOUT) write_block(cast);
    if (!(events & ~(uint32_t)EPOLLOUT) ||
        recv(cast->job.publisher, read_buffer, READ_BYTES, MSG_DONTWAIT | MSG_TRUNC) != 0)
        return 1;
    cast->figures.closed++;
    epoll_ctl(cast->poll, EPOLL_CTL_DEL, cast->job.publisher, NULL);
    return 0;
}

/* window > 0: at full speed with that many messages on their way; otherwise one each interval_ns; both 0: only read,
 * until everything has come. is_timed: what is sent from now on counts in the histogram. */
void cast_run(struct cast *cast, uint64_t duration_ns, uint64_t window, uint64_t interval_ns, int is_timed) {
    static struct epoll_event events[MAX_EVENTS];
    uint64_t start = now_ns(), end = start + duration_ns, next_due = start;
    time_from_now(cast, is_timed);
    for (uint64_t now = start; now < end; now = now_ns()) {
        if (!window && !interval_ns && !cast->is_blocked && cast->figures.bytes >= wanted_bytes(cast)) return;
        uint64_t wait = end - now < 20000000u ? end - now : 20000000u;
        if (!cast->is_blocked) {
            uint64_t count = window ? saturating(cast, window) : 0;
            if (interval_ns)
                for (; next_due <= now && count < BLOCK_BYTES / cast->job.message_bytes; next_due += interval_ns)
                    cast->due[(cast->figures.sent + count++) % DUE_SLOTS] = next_due;
            if (count) publish(cast, count);
            if (window && !cast->is_blocked && saturating(cast, window)) wait = 0;
            if (interval_ns) {
                now = now_ns();
                uint64_t until = next_due > now ? next_due - now : 0;
                wait = until < wait ? until : wait;
            }
        }
        int count = wait_events(cast->poll, events, wait);
        for (int index = 0; index < count; index++) {
            uint64_t which = events[index].data.u64;
            if (which < cast->job.member_count)
                read_member(cast, &cast->members[which]);
            else if (!serve_publisher(cast, events[index].events))
                return;
        }
    }
}

/* Pairs: the sender is the publisher of a cast, the receiver its only member. */

struct pairs {
    int poll;
    uint32_t count;
    struct cast *casts;
};

void pairs_free(struct pairs *pairs) {
    for (uint32_t index = 0; pairs->casts && index < pairs->count; index++) cast_drop(&pairs->casts[index]);
    close(pairs->poll);
    free(pairs->casts);
    free(pairs);
}

struct pairs *pairs_new(const struct cast_job *jobs, uint32_t count) {
    struct pairs *pairs = calloc(1, sizeof *pairs);
    if (!pairs) return NULL;
    pairs->poll = epoll_create1(EPOLL_CLOEXEC);
    pairs->casts = calloc(count, sizeof *pairs->casts);
    /* Two to each, as each has one member and one publisher. */
    while (pairs->casts && pairs->count < count) {
        uint32_t index = pairs->count++;
        if (!cast_make(&pairs->casts[index], &jobs[index], pairs->poll, 2 * (uint64_t)index)) break;
        if (pairs->count == count) return pairs;
    }
    pairs_free(pairs);
    return NULL;
}

struct cast_figures *pairs_figures(struct pairs *pairs, uint32_t index) { return &pairs->casts[index].figures; }

static void send_within(struct cast *cast, uint64_t window) {
    uint64_t count = window && !cast->is_blocked ? saturating(cast, window) : 0;
    if (!count) return;
    if (cast->timed_to == UINT64_MAX) {
        uint64_t now = now_ns();
        for (uint64_t index = 0; index < count; index++) cast->due[(cast->figures.sent + index) % DUE_SLOTS] = now;
    }
    publish(cast, count);
}

static int have_all(const struct pairs *pairs) {
    for (uint32_t index = 0; index < pairs->count; index++)
        if (pairs->casts[index].is_blocked || pairs->casts[index].figures.bytes < wanted_bytes(&pairs->casts[index]))
            return 0;
    return 1;
}

/* window > 0: each pair has that many messages on their way; 0: only read, until everything has come. is_timed: what is
 * sent from now on counts in the histogram, from when it is written: its sender had nothing else on the way. */
void pairs_run(struct pairs *pairs, uint64_t duration_ns, uint64_t window, int is_timed) {
    static struct epoll_event events[MAX_EVENTS];
    uint64_t end = now_ns() + duration_ns;
    for (uint32_t index = 0; index < pairs->count; index++) {
        time_from_now(&pairs->casts[index], is_timed);
        send_within(&pairs->casts[index], window);
    }
    for (uint64_t now = now_ns(); now < end && (window || !have_all(pairs)); now = now_ns()) {
        int count = wait_events(pairs->poll, events, end - now < 20000000u ? end - now : 20000000u);
        for (int index = 0; index < count; index++) {
            struct cast *cast = &pairs->casts[events[index].data.u64 / 2];
            if (events[index].data.u64 % 2 == 0)
                read_member(cast, cast->members);
            else
                serve_publisher(cast, events[index].events);
            send_within(cast, window);
        }
    }
}

/* Conversations. */

struct talk_step {
    const uint8_t *bytes;
    /* variant i of what is said ends at ends[i] */
    const uint32_t *ends;
    uint32_t variants;
    uint32_t answer_bytes;
    uint8_t tail[8];
    uint32_t tail_bytes;
};

struct talk_job {
    uint16_t port;
    struct talk_step steps[MAX_STEPS];
    uint32_t step_count;
    /* -1: each connection stays open after its last step; 0: it says farewell, closes, and the next one comes;
     * more: it goes on with that step. */
    int again_from;
    uint32_t at_once;
    uint32_t count;
    const uint8_t *farewell;
    uint32_t farewell_bytes;
};

struct line {
    int socket;
    int step;
    uint32_t variant;
    uint32_t came;
    uint8_t tail[8];
};

struct talk {
    struct talk_job job;
    int poll;
    struct line *lines;
    uint8_t *buffer;
    uint32_t started;
    uint64_t completed;
    uint64_t failed;
};

static void line_fails(struct talk *talk, struct line *line) {
    talk->failed++;
    close(line->socket);
    line->socket = -1;
}

static int line_starts(struct talk *talk, struct line *line) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(talk->job.port)};
    struct sockaddr_in from = {.sin_family = AF_INET};
    int yes = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* Many addresses on loopback, as one has too few ports for all the connections just closed. */
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + talk->started % 64);
    line->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(line->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    setsockopt(line->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    line->variant = talk->started++;
    line->step = -1;
    line->came = 0;
    if (line->socket < 0 || bind(line->socket, (struct sockaddr *)&from, sizeof from) ||
        (connect(line->socket, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)) {
        line_fails(talk, line);
        return 0;
    }
    watch(talk->poll, EPOLL_CTL_ADD, line->socket, EPOLLOUT, (uint64_t)(line - talk->lines));
    return 1;
}

static void line_says(struct talk *talk, struct line *line) {
    const struct talk_step *step = &talk->job.steps[line->step];
    uint32_t variant = line->variant % step->variants;
    uint32_t start = variant ? step->ends[variant - 1] : 0;
    uint32_t size = step->ends[variant] - start;
    line->came = 0;
    if (size && send(line->socket, step->bytes + start, size, MSG_NOSIGNAL) != (ssize_t)size) line_fails(talk, line);
}

static void line_has_answer(struct talk *talk, struct line *line) {
    if (++line->step < (int)talk->job.step_count) {
        line_says(talk, line);
        return;
    }
    talk->completed++;
    if (talk->job.again_from > 0) {
        line->step = talk->job.again_from;
        line_says(talk, line);
    } else if (talk->job.again_from == 0) {
        if (talk->job.farewell_bytes)
            send(line->socket, talk->job.farewell, talk->job.farewell_bytes, MSG_NOSIGNAL);
        close(line->socket);
        line_starts(talk, line);
    } else {
        epoll_ctl(talk->poll, EPOLL_CTL_DEL, line->socket, NULL);
        if (talk->started < talk->job.count) line_starts(talk, &talk->lines[talk->started]);
    }
}

static void line_reads(struct talk *talk, struct line *line) {
    ssize_t size = recv(line->socket, talk->buffer, READ_BYTES, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
        line_fails(talk, line);
        return;
    }
    for (ssize_t index = size > 8 ? size - 8 : 0; index < size; index++) {
        memmove(line->tail, line->tail + 1, 7);
        line->tail[7] = talk->buffer[index];
    }
    line->came += (uint32_t)size;
    const struct talk_step *step = &talk->job.steps[line->step];
    if (line->came >= step->answer_bytes &&
        !memcmp(line->tail + 8 - step->tail_bytes, step->tail, step->tail_bytes))
        line_has_answer(talk, line);
}

struct talk *talk_new(const struct talk_job *job) {
    struct talk *talk = calloc(1, sizeof *talk);
    if (!talk) return NULL;
    talk->job = *job;
    talk->poll = epoll_create1(EPOLL_CLOEXEC);
    talk->lines = calloc(job->count, sizeof *talk->lines);
    talk->buffer = malloc(READ_BYTES);
    for (uint32_t index = 0; index < job->count; index++) talk->lines[index].socket = -1;
    for (uint32_t index = 0; index < job->at_once && index < job->count; index++) line_starts(talk, &talk->lines[index]);
    return talk;
}

/* Until the time is over, or every connection is open that is to stay open. */
void talk_run(struct talk *talk, uint64_t duration_ns) {
    static struct epoll_event events[MAX_EVENTS];
    uint64_t end = now_ns() + duration_ns;
    while (now_ns() < end) {
        if (talk->failed || (talk->job.again_from < 0 && talk->completed == talk->job.count)) return;
        int count = wait_events(talk->poll, events, 20000000u);
        for (int index = 0; index < count; index++) {
            struct line *line = &talk->lines[events[index].data.u64];
            if (line->socket < 0) continue;
            if (line->step >= 0) {
                line_reads(talk, line);
                continue;
            }
            watch(talk->poll, EPOLL_CTL_MOD, line->socket, EPOLLIN, events[index].data.u64);
            line->step = 0;
            line_says(talk, line);
        }
    }
}

uint64_t talk_completed(const struct talk *talk) { return talk->completed; }
uint64_t talk_failed(const struct talk *talk) { return talk->failed; }
int talk_socket(const struct talk *talk, uint32_t index) { return talk->lines[index].socket; }

/* Closes what is open, unless it is to stay open. */
void talk_free(struct talk *talk) {
    for (uint32_t index = 0; talk->job.again_from >= 0 && index < talk->job.count; index++)
        if (talk->lines[index].socket >= 0) close(talk->lines[index].socket);
    close(talk->poll);
    free(talk->lines);
    free(talk->buffer);
    free(talk);
}
