/*
 * Runs cells of C and keeps what they leave behind.  Three files, compiled as one inside the
 * computer by its own compiler: scanning a cell (here), making a unit of it (c_cell.c), running it
 * (c_run.c).
 *
 * A cell's text is split into preprocessor lines, types, functions, variables and statements: the
 * first four go to file scope, statements into a function of their own.
 */
#define _GNU_SOURCE 1
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum token_kind { TOKEN_END, TOKEN_WORD, TOKEN_OTHER, TOKEN_MARK, TOKEN_LINE };

struct token {
    enum token_kind kind;
    const char *at;
    size_t len;
    int line; /* of the cell, from 1 */
};

enum item_kind { ITEM_LINE, ITEM_TYPE, ITEM_FUNCTION, ITEM_VARIABLES, ITEM_STATEMENT, ITEM_VALUE };

struct item {
    enum item_kind kind;
    size_t from, to; /* tokens [from, to) */
};

struct scan {
    struct token *tokens;
    size_t count, cap;
    struct item *items;
    size_t item_count, item_cap;
};

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

/* ---- tokens ---- */

static bool is_word_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

static void add_token(struct scan *s, enum token_kind kind, const char *at, size_t len, int line)
{
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 256;
        s->tokens = must(reallocarray(s->tokens, s->cap, sizeof *s->tokens));
    }
    s->tokens[s->count++] = (struct token){ kind, at, len, line };
}

static bool starts(const char *at, const char *end, const char *with)
{
    size_t len = strlen(with);

    return (size_t)(end - at) >= len && memcmp(at, with, len) == 0;
}

/* The end of what opens at @at: a string or character constant. */
static const char *skip_quoted(const char *at, const char *end)
{
    char quote = *at++;

    while (at < end && *at != quote && *at != '\n')
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    return at < end ? at + 1 : end;
}

static const char *skip_comment(const char *at, const char *end)
{
    const char *p;

    if (at[1] == '/') {
        while (at < end && *at != '\n')
            at += *at == '\\' && at + 1 < end ? 2 : 1;
        return at < end ? at : end;
    }
    p = memmem(at + 2, (size_t)(end - at - 2), "*/", 2);
    return p ? p + 2 : end;
}

/* A preprocessor line with its continuations; a condition with everything up to its #endif. */
static const char *skip_line(const char *at, const char *end)
{
    int depth = 0;

    for (;;) {
        const char *word = at + 1;

        while (word < end && (*word == ' ' || *word == '\t'))
            word++;
        if (starts(word, end, "if"))
            depth++;
        else if (starts(word, end, "endif"))
            depth--;
        while (at < end && *at != '\n') {
            if ((starts(at, end, "/*")) || starts(at, end, "//"))
                at = skip_comment(at, end);
            else
                at += *at == '\\' && at + 1 < end ? 2 : 1;
        }
        if (at > end)
            at = end;
        if (depth <= 0)
            return at;
        do { /* on to the next preprocessor line */
            while (at < end && *at != '\n')
                at++;
            while (at < end && isspace((unsigned char)*at))
                at++;
        } while (at < end && *at != '#');
        if (at >= end)
            return end;
    }
}

static size_t mark_length(const char *at, const char *end)
{
    static const char *const marks[] = { "...", "<<=", ">>=", "==", "!=", "<=", ">=", "+=",
                                         "-=",  "*=",  "/=",  "%=", "&=", "|=", "^=", "&&",
                                         "||",  "->",  "++",  "--", "<<", ">>" };

    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (starts(at, end, marks[i]))
            return strlen(marks[i]);
    return 1;
}

static void tokenize(struct scan *s, const char *text, size_t len)
{
    const char *at = text, *end = text + len, *counted = text;
    bool fresh = true; /* nothing but space on this line so far */
    int line = 1;

    while (at < end) {
        const char *from = at;

        for (; counted < at; counted++)
            line += *counted == '\n';
        if (*at == '\n')
            fresh = true;
        if (isspace((unsigned char)*at) || (*at == '\\' && at + 1 < end && at[1] == '\n')) {
            at++;
            continue;
        }
        if (starts(at, end, "//") || starts(at, end, "/*")) {
            at = skip_comment(at, end);
            continue;
        }
        if (*at == '#' && fresh) {
            at = skip_line(at, end);
            add_token(s, TOKEN_LINE, from, (size_t)(at - from), line);
            continue;
        }
        fresh = false;
        if (*at == '"' || *at == '\'') {
            at = skip_quoted(at, end);
            add_token(s, TOKEN_OTHER, from, (size_t)(at - from), line);
        } else if (isdigit((unsigned char)*at)) {
            while (at < end && (is_word_char(*at) || *at == '.' ||
                                ((*at == '+' || *at == '-') && strchr("eEpP", at[-1]))))
                at++;
            add_token(s, TOKEN_OTHER, from, (size_t)(at - from), line);
        } else if (is_word_char(*at)) {
            while (at < end && is_word_char(*at))
                at++;
            add_token(s, TOKEN_WORD, from, (size_t)(at - from), line);
        } else {
            at += mark_length(at, end);
            add_token(s, TOKEN_MARK, from, (size_t)(at - from), line);
        }
    }
    for (; counted < end; counted++)
        line += *counted == '\n';
    add_token(s, TOKEN_END, end, 0, line);
}

static bool is(const struct token *t, const char *text)
{
    return (t->kind == TOKEN_WORD || t->kind == TOKEN_MARK) && t->len == strlen(text) &&
           memcmp(t->at, text, t->len) == 0;
}

static bool is_any(const struct token *t, const char *const *texts)
{
    for (; *texts; texts++)
        if (is(t, *texts))
            return true;
    return false;
}

/* ---- where things end ---- */

/* Past the bracket that closes the one at @i. */
static size_t skip_group(const struct scan *s, size_t i)
{
    int depth = 0;

    for (; s->tokens[i].kind != TOKEN_END; i++) {
        const struct token *t = &s->tokens[i];

        if (is(t, "(") || is(t, "[") || is(t, "{"))
            depth++;
        else if ((is(t, ")") || is(t, "]") || is(t, "}")) && --depth <= 0)
            return i + 1;
    }
    return i;
}

/* On to a mark of @stops outside of brackets, or to the end. */
static size_t skip_until(const struct scan *s, size_t i, const char *const *stops)
{
    while (s->tokens[i].kind != TOKEN_END && !is_any(&s->tokens[i], stops)) {
        const struct token *t = &s->tokens[i];

        i = is(t, "(") || is(t, "[") || is(t, "{") ? skip_group(s, i) : i + 1;
    }
    return i;
}

static const char *const stop_semicolon[] = { ";", NULL };

static size_t skip_statement(const struct scan *s, size_t i)
{
    const struct token *t = &s->tokens[i];

    if (t->kind == TOKEN_END)
        return i;
    if (t->kind == TOKEN_LINE)
        return skip_statement(s, i + 1);
    if (is(t, "{"))
        return skip_group(s, i);
    if (is(t, "if")) {
        i = skip_statement(s, skip_group(s, i + 1));
        return is(&s->tokens[i], "else") ? skip_statement(s, i + 1) : i;
    }
    if (is(t, "for") || is(t, "while") || is(t, "switch"))
        return skip_statement(s, skip_group(s, i + 1));
    if (is(t, "do"))
        i = skip_statement(s, i + 1);
    else if (t->kind == TOKEN_WORD && is(&s->tokens[i + 1], ":"))
        return skip_statement(s, i + 2);
    i = skip_until(s, i, stop_semicolon);
    return s->tokens[i].kind == TOKEN_END ? i : i + 1;
}

/* ---- what things are ---- */

static const char *const control_words[] = { "if",      "for",   "while",    "do",      "switch",
                                             "return",  "break", "continue", "goto",    "case",
                                             "default", "else",  "asm",      "__asm__", NULL };

static const char *const operator_words[] = { "sizeof",      "_Generic",           "_Alignof",
                                              "__alignof__", "__builtin_offsetof", NULL };

static const char *const type_words[] = {
    "void",
    "char",
    "short",
    "int",
    "long",
    "float",
    "double",
    "signed",
    "unsigned",
    "_Bool",
    "const",
    "volatile",
    "static",
    "extern",
    "inline",
    "struct",
    "union",
    "enum",
    "typedef",
    "register",
    "auto",
    "_Complex",
    "_Atomic",
    "typeof",
    "__typeof__",
    "_Alignas",
    "_Noreturn",
    "__inline__",
    "_Thread_local",
    "__thread",
    "__int128",
    "__const",
    "__inline",
    "__restrict",
    "__attribute__",
    "__extension__",
    "restrict",
    "__signed__",
    "_Float128",
    "__auto_type",
    NULL,
};

static bool is_name(const struct token *t)
{
    return t->kind == TOKEN_WORD && !is_any(t, control_words) && !is_any(t, operator_words) &&
           !is_any(t, type_words);
}

/* c_cell.c: is this a variable or function that a cell has made? */
static bool is_known_object(const struct token *name);

static bool begins_declaration(const struct scan *s, size_t i)
{
    static const char *const after_name[] = { "=", ";", ",", "[", "(", ")", NULL };
    const struct token *t = &s->tokens[i];
    size_t next = i + 1;

    if (is(t, "_Static_assert") || is_any(t, type_words))
        return true;
    if (!is_name(t) || is_known_object(t))
        return false;
    if (is_name(&s->tokens[next]) || is_any(&s->tokens[next], type_words))
        return true;
    while (is(&s->tokens[next], "*") || is(&s->tokens[next], "const"))
        next++;
    if (next == i + 1)
        return false;
    return is_name(&s->tokens[next]) && is_any(&s->tokens[next + 1], after_name);
}

/* The end of a declaration, and whether it is a function with its body. */
static size_t skip_declaration(const struct scan *s, size_t i, bool *ret_function)
{
    bool after_list = false, initializer = false;

    *ret_function = false;
    while (s->tokens[i].kind != TOKEN_END && !is(&s->tokens[i], ";")) {
        const struct token *t = &s->tokens[i];

        if (is(t, "{") && after_list && !initializer) {
            *ret_function = true;
            return skip_group(s, i);
        }
        initializer = initializer || is(t, "=");
        after_list = is(t, "(");
        if (is(t, "__attribute__") || is(t, "_Alignas"))
            i++;
        i = is(&s->tokens[i], "(") || is(t, "[") || is(t, "{") ? skip_group(s, i) : i + 1;
    }
    return s->tokens[i].kind == TOKEN_END ? i : i + 1;
}

static void add_item(struct scan *s, enum item_kind kind, size_t from, size_t to)
{
    if (s->item_count == s->item_cap) {
        s->item_cap = s->item_cap ? s->item_cap * 2 : 64;
        s->items = must(reallocarray(s->items, s->item_cap, sizeof *s->items));
    }
    s->items[s->item_count++] = (struct item){ kind, from, to };
}

static void split(struct scan *s)
{
    size_t i = 0;

    while (s->tokens[i].kind != TOKEN_END) {
        enum item_kind kind = ITEM_STATEMENT;
        size_t from = i;
        bool function;

        if (is(&s->tokens[i], ";")) {
            i++;
            continue;
        }
        if (s->tokens[i].kind == TOKEN_LINE) {
            kind = ITEM_LINE;
            i++;
        } else if (begins_declaration(s, i)) {
            i = skip_declaration(s, i, &function);
            kind = function ? ITEM_FUNCTION : ITEM_VARIABLES;
        } else {
            bool plain = !is_any(&s->tokens[i], control_words) && !is(&s->tokens[i], "{");

            i = skip_statement(s, i);
            if (plain && s->tokens[i].kind == TOKEN_END && !is(&s->tokens[i - 1], ";"))
                kind = ITEM_VALUE;
        }
        if (i == from) /* a stray closing bracket: the compiler will say so */
            i++;
        add_item(s, kind, from, i);
    }
}

static void scan_free(struct scan *s)
{
    free(s->tokens);
    free(s->items);
}
