/*
 * Making a unit of a cell: what earlier cells declared, what this one adds, and a function with its
 * statements.
 *
 * Every variable and function has a symbol of its own per cell (an assembler label), so that a
 * later cell may define the name anew while older code goes on using what it was compiled with.
 */

struct text {
    char *data;
    size_t len, cap;
};

/* One thing that later cells see. */
struct entry {
    char *key;         /* "v:NAME", "t:NAME", "#NAME" or the text itself */
    char *declaration; /* for later cells */
    char *definition;  /* in the cell that makes it; NULL afterwards */
    char *count;       /* an array of unstated size: the symbol that tells it */
};

struct entries {
    struct entry *at;
    size_t count, cap;
};

struct unit {
    const struct scan *scan;
    int cell;
    struct entries entries;
    struct text body;
    size_t value_from, value_to; /* tokens of the last expression; the same: none */
    bool has_statements, has_main;
};

static struct entries known; /* what the cells up to now have declared */

static void put_bytes(struct text *t, const char *at, size_t len)
{
    if (t->len + len + 1 > t->cap) {
        t->cap = (t->len + len + 1) * 2;
        t->data = must(realloc(t->data, t->cap));
    }
    memcpy(t->data + t->len, at, len);
    t->len += len;
    t->data[t->len] = '\0';
}

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
    char *made = NULL;
    va_list ap;
    int len;

    va_start(ap, format);
    len = vasprintf(&made, format, ap);
    va_end(ap);
    if (len < 0)
        abort();
    put_bytes(t, made, (size_t)len);
    free(made);
}

/* ---- entries ---- */

static void entry_free(struct entry *e)
{
    free(e->key);
    free(e->declaration);
    free(e->definition);
    free(e->count);
}

static void entries_free(struct entries *all)
{
    for (size_t i = 0; i < all->count; i++)
        entry_free(&all->at[i]);
    free(all->at);
    *all = (struct entries){ NULL, 0, 0 };
}

static struct entry *find_entry(struct entries *all, const char *key)
{
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->at[i].key, key) == 0)
            return &all->at[i];
    return NULL;
}

static bool is_known_object(const struct token *name)
{
    char *key = NULL;
    bool found;

    if (asprintf(&key, "v:%.*s", (int)name->len, name->at) < 0)
        abort();
    found = find_entry(&known, key) != NULL;
    free(key);
    return found;
}

static void drop_entry(struct entries *all, char *key)
{
    struct entry *e = find_entry(all, key);

    free(key);
    if (!e)
        return;
    entry_free(e);
    memmove(e, e + 1, (size_t)(all->at + all->count - e - 1) * sizeof *e);
    all->count--;
}

/* Takes the three strings.  In its old place (types, lines: what follows may need it), or last. */
static struct entry *set_entry(struct entries *all, char *key, char *declaration, char *definition,
                               bool in_place)
{
    struct entry *e = find_entry(all, key);

    if (e && !in_place) {
        drop_entry(all, strdup(key));
        e = NULL;
    }
    if (e) {
        entry_free(e);
    } else {
        if (all->count == all->cap) {
            all->cap = all->cap ? all->cap * 2 : 64;
            all->at = must(reallocarray(all->at, all->cap, sizeof *all->at));
        }
        e = &all->at[all->count++];
    }
    *e = (struct entry){ must(key), must(declaration), must(definition), NULL };
    return e;
}

static void copy_entries(struct entries *to, const struct entries *from)
{
    for (size_t i = 0; i < from->count; i++)
        (void)set_entry(to, strdup(from->at[i].key), strdup(from->at[i].declaration), strdup(""),
                        false);
    for (size_t i = 0; i < to->count; i++) {
        free(to->at[i].definition);
        to->at[i].definition = NULL;
    }
}

/* ---- writing tokens out ---- */

/* Tokens [from, to) as they stand in the cell, without the words in @drop. */
static void put_tokens(struct text *out, const struct scan *s, size_t from, size_t to,
                       const char *const *drop)
{
    for (size_t i = from; i < to; i++) {
        const struct token *t = &s->tokens[i];

        if (i > from) {
            const char *gap = s->tokens[i - 1].at + s->tokens[i - 1].len;

            put_bytes(out, gap, (size_t)(t->at - gap));
        }
        if (!drop || !is_any(t, drop))
            put_bytes(out, t->at, t->len);
    }
}

static void put_place(struct text *out, const struct unit *u, size_t token)
{
    put(out, "\n#line %d \"cell-%d\"\n", u->scan->tokens[token].line, u->cell);
}

static char *format_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *format_text(const char *format, ...)
{
    char *made = NULL;
    va_list ap;

    va_start(ap, format);
    if (vasprintf(&made, format, ap) < 0)
        abort();
    va_end(ap);
    return made;
}

static char *name_key(const char *kind, const struct token *name)
{
    return format_text("%s%.*s", kind, (int)name->len, name->at);
}

static const char *const storage_words[] = { "static", "extern",     "register", "inline",
                                             "auto",   "__inline__", "__inline", NULL };
static const char *const storage_and_const[] = { "static",   "extern", "register",
                                                 "inline",   "auto",   "__inline__",
                                                 "__inline", "const",  NULL };

/* ---- declarations ---- */

struct specifiers {
    size_t to;                 /* where the first declarator begins */
    size_t tag, body, body_to; /* of a struct, union or enum; 0: none */
    bool is_typedef, is_extern, has_auto_type;
};

static size_t skip_attributes(const struct scan *s, size_t i)
{
    while (is(&s->tokens[i], "__attribute__"))
        i = skip_group(s, i + 1);
    return i;
}

static struct specifiers read_specifiers(const struct scan *s, size_t i)
{
    static const char *const with_group[] = { "__attribute__", "_Alignas", NULL };
    static const char *const typeofs[] = { "typeof", "__typeof__", NULL };
    static const char *const not_types[] = {
        "const",     "volatile",      "static",   "extern",        "inline",   "typedef",
        "register",  "auto",          "_Atomic",  "__inline__",    "__inline", "restrict",
        "_Noreturn", "_Thread_local", "__thread", "__extension__", NULL
    };
    static const char *const tagged[] = { "struct", "union", "enum", NULL };
    struct specifiers spec = { .to = i };
    bool typed = false;

    for (;;) {
        const struct token *t = &s->tokens[i];

        if (is_any(t, tagged)) {
            typed = true;
            i = skip_attributes(s, i + 1);
            if (s->tokens[i].kind == TOKEN_WORD)
                spec.tag = i++;
            if (is(&s->tokens[i], "{")) {
                spec.body = i;
                i = spec.body_to = skip_group(s, i);
            }
        } else if (is_any(t, with_group)) {
            i = skip_group(s, i + 1);
        } else if (is_any(t, typeofs) || (is(t, "_Atomic") && is(&s->tokens[i + 1], "("))) {
            typed = true;
            i = skip_group(s, i + 1);
        } else if (is_any(t, not_types)) {
            spec.is_typedef |= is(t, "typedef");
            spec.is_extern |= is(t, "extern");
            i++;
        } else if (is_any(t, type_words) || (is_name(t) && !typed)) {
            spec.has_auto_type |= is(t, "__auto_type");
            typed = true;
            i++;
        } else {
            break;
        }
    }
    spec.to = i;
    return spec;
}

/* The token of the name that [from, to) declares, or @to. */
static size_t declared_name(const struct scan *s, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (is(&s->tokens[i], "__attribute__"))
            i = skip_group(s, i + 1) - 1;
        else if (is_name(&s->tokens[i]))
            return i;
    }
    return to;
}

struct declarator {
    size_t from, name, to;       /* tokens */
    size_t value_from, value_to; /* the initializer; the same: none */
};

/* The type words of one declarator, as they are to appear at file scope. */
static void put_specifiers(struct text *out, const struct unit *u, size_t from,
                           const struct specifiers *spec, const struct declarator *d)
{
    bool pointer = false;

    for (size_t i = d->from; i < d->name; i++)
        pointer |= is(&u->scan->tokens[i], "*");
    if (spec->has_auto_type && d->value_to > d->value_from) {
        put(out, "__typeof__(");
        put_tokens(out, u->scan, d->value_from, d->value_to, NULL);
        put(out, ")");
    } else if (spec->body) { /* its type has been defined by itself before */
        put_tokens(out, u->scan, from, spec->body, pointer ? storage_words : storage_and_const);
        if (!spec->tag)
            put(out, " cell_%d_at_%zu", u->cell, spec->body);
        put(out, " ");
        put_tokens(out, u->scan, spec->body_to, spec->to,
                   pointer ? storage_words : storage_and_const);
    } else {
        put_tokens(out, u->scan, from, spec->to, pointer ? storage_words : storage_and_const);
    }
    put(out, " ");
}

/* A declarator without the const that is the object's own. */
static void put_declarator(struct text *out, const struct unit *u, const struct declarator *d)
{
    static const char *const just_const[] = { "const", NULL };
    size_t star = d->from;

    for (size_t i = d->from; i < d->name; i++)
        if (is(&u->scan->tokens[i], "*"))
            star = i;
    put_tokens(out, u->scan, d->from, star, NULL);
    put_tokens(out, u->scan, star, d->name, just_const);
    put(out, " ");
    put_tokens(out, u->scan, d->name, d->to, NULL);
}

static bool is_unsized_array(const struct unit *u, const struct declarator *d)
{
    return is(&u->scan->tokens[d->name + 1], "[") && is(&u->scan->tokens[d->name + 2], "]");
}

static void add_variable(struct unit *u, size_t from, const struct specifiers *spec,
                         const struct declarator *d)
{
    const struct token *name = &u->scan->tokens[d->name];
    bool unsized = is_unsized_array(u, d), has_value = d->value_to > d->value_from;
    struct text what = { NULL, 0, 0 }, definition = { NULL, 0, 0 };
    struct entry *e;

    put_specifiers(&what, u, from, spec, d);
    put_declarator(&what, u, d);
    put(&what, " __asm__(\"%.*s__c%d\")", (int)name->len, name->at, u->cell);
    put_place(&definition, u, d->name);
    put(&definition, "%s", what.data);
    if (unsized && has_value) {
        put(&definition, " = ");
        put_tokens(&definition, u->scan, d->value_from, d->value_to, NULL);
    }
    put(&definition, ";\n");
    if (unsized)
        put(&definition, "const unsigned long cell_%d_n_%.*s = sizeof(%.*s) / sizeof(*(%.*s));\n",
            u->cell, (int)name->len, name->at, (int)name->len, name->at, (int)name->len, name->at);
    e = set_entry(&u->entries, name_key("v:", name), format_text("extern %s;\n", what.data),
                  definition.data, false);
    if (unsized)
        e->count = format_text("cell_%d_n_%.*s", u->cell, (int)name->len, name->at);
    if (has_value && !unsized) {
        u->has_statements = true;
        put_place(&u->body, u, d->name);
        put(&u->body, "{ __typeof__(%.*s) cell_new = ", (int)name->len, name->at);
        put_tokens(&u->body, u->scan, d->value_from, d->value_to, NULL);
        put(&u->body, "; cell_copy((void *)&%.*s, &cell_new, sizeof cell_new); }\n", (int)name->len,
            name->at);
    }
    free(what.data);
}

/* Is there a function of this name with its body in this cell? */
static bool is_defined_here(const struct unit *u, const struct token *name)
{
    for (size_t i = 0; i < u->scan->item_count; i++) {
        const struct item *item = &u->scan->items[i];
        struct specifiers spec;
        size_t at;

        if (item->kind != ITEM_FUNCTION)
            continue;
        spec = read_specifiers(u->scan, item->from);
        at = declared_name(u->scan, spec.to, item->to);
        if (at < item->to && u->scan->tokens[at].len == name->len &&
            memcmp(u->scan->tokens[at].at, name->at, name->len) == 0)
            return true;
    }
    return false;
}

/* A prototype, or a variable of a library. */
static void add_foreign(struct unit *u, size_t from, const struct specifiers *spec,
                        const struct declarator *d, bool prototype)
{
    const struct token *name = &u->scan->tokens[d->name];
    struct text what = { NULL, 0, 0 };

    if (prototype && is_defined_here(u, name)) { /* with the symbol of what is to come */
        put_tokens(&what, u->scan, from, spec->to, storage_words);
        put(&what, " ");
        put_tokens(&what, u->scan, d->from, d->to, NULL);
        put(&what, " __asm__(\"%.*s__c%d\");\n", (int)name->len, name->at, u->cell);
        (void)set_entry(&u->entries, name_key("p:", name), strdup(""), what.data, false);
        return;
    }
    if (prototype && is_known_object(name))
        return; /* an earlier cell's definition brings its own */
    put_place(&what, u, d->name);
    put_tokens(&what, u->scan, from, spec->to, NULL);
    put(&what, " ");
    put_tokens(&what, u->scan, d->from, d->to, NULL);
    put(&what, ";\n");
    /* Not known as ours: a function of this name is still to come, or is a library's. */
    (void)set_entry(&u->entries, name_key("x:", name), strdup(what.data), what.data, true);
}

static void add_type(struct unit *u, size_t from, size_t to, const struct specifiers *spec)
{
    struct text what = { NULL, 0, 0 };
    char *key;

    put_place(&what, u, from);
    if (spec->body && !spec->tag && !spec->is_typedef && spec->to != to) {
        put_tokens(&what, u->scan, from, spec->body, storage_and_const);
        put(&what, " cell_%d_at_%zu ", u->cell, spec->body);
        put_tokens(&what, u->scan, spec->body, spec->body_to, NULL);
    } else {
        put_tokens(&what, u->scan, from, to, spec->is_typedef ? NULL : storage_words);
    }
    put(&what, ";\n");
    if (spec->is_typedef && declared_name(u->scan, spec->to, to) < to)
        key = name_key("t:", &u->scan->tokens[declared_name(u->scan, spec->to, to)]);
    else if (spec->tag)
        key = format_text("%s:%.*s", spec->body ? "s" : "forward",
                          (int)u->scan->tokens[spec->tag].len, u->scan->tokens[spec->tag].at);
    else
        key = strdup(what.data);
    (void)set_entry(&u->entries, key, strdup(what.data), what.data, true);
}

static void add_variables(struct unit *u, const struct item *item)
{
    static const char *const stops[] = { ",", ";", "=", NULL };
    static const char *const value_stops[] = { ",", ";", NULL };
    const struct scan *s = u->scan;
    struct specifiers spec = read_specifiers(s, item->from);
    size_t end = is(&s->tokens[item->to - 1], ";") ? item->to - 1 : item->to;
    size_t i = spec.to;

    if (spec.is_typedef || spec.to >= end || is(&s->tokens[item->from], "_Static_assert")) {
        add_type(u, item->from, end, &spec);
        return;
    }
    if (spec.body)
        add_type(u, item->from, spec.tag ? spec.body_to : end, &spec);
    while (i < end) {
        struct declarator d = { .from = i };

        d.to = skip_until(s, i, stops);
        d.name = declared_name(s, d.from, d.to);
        i = d.to;
        if (is(&s->tokens[i], "=")) {
            d.value_from = i + 1;
            i = d.value_to = skip_until(s, i + 1, value_stops);
        }
        if (is(&s->tokens[i], ","))
            i++;
        else
            i = end;
        if (d.name == d.to) { /* no name: left to the compiler to complain about */
            put_place(&u->body, u, item->from);
            put_tokens(&u->body, s, item->from, item->to, NULL);
            u->has_statements = true;
            return;
        }
        if (is(&s->tokens[d.name + 1], "("))
            add_foreign(u, item->from, &spec, &d, true);
        else if (spec.is_extern && d.value_to == d.value_from)
            add_foreign(u, item->from, &spec, &d, false);
        else
            add_variable(u, item->from, &spec, &d);
    }
}

static void add_function(struct unit *u, const struct item *item)
{
    const struct scan *s = u->scan;
    struct specifiers spec = read_specifiers(s, item->from);
    struct text declaration = { NULL, 0, 0 }, definition = { NULL, 0, 0 };
    size_t name, body = item->to;
    const struct token *t;

    for (size_t i = item->from; i < item->to; i++) { /* the last group is the body */
        if (is(&s->tokens[i], "{") && skip_group(s, i) == item->to) {
            body = i;
            break;
        }
    }
    name = declared_name(s, spec.to, body);
    if (name == body) {
        name = declared_name(s, item->from, body); /* "main() {", without a type */
        spec.to = name;
    }
    if (name == body)
        return;
    t = &s->tokens[name];
    u->has_main = u->has_main || is(t, "main");
    put_tokens(&declaration, s, item->from, body, storage_words);
    put(&declaration, " __asm__(\"%.*s__c%d\");\n", (int)t->len, t->at, u->cell);
    put(&definition, "%s", declaration.data);
    put_place(&definition, u, item->from);
    put_tokens(&definition, s, item->from, item->to, storage_words);
    put(&definition, "\n");
    drop_entry(&u->entries, name_key("x:", t)); /* an earlier prototype, which has another symbol */
    (void)set_entry(&u->entries, name_key("v:", t), declaration.data, definition.data, false);
}

static void add_line(struct unit *u, const struct item *item)
{
    const struct token *t = &u->scan->tokens[item->from];
    const char *word = t->at + 1, *end = t->at + t->len;
    struct text what = { NULL, 0, 0 };
    char *key;

    while (word < end && (*word == ' ' || *word == '\t'))
        word++;
    put_place(&what, u, item->from);
    put_bytes(&what, t->at, t->len);
    put(&what, "\n");
    if (starts(word, end, "define") || starts(word, end, "undef")) {
        const char *name = word + (*word == 'd' ? 6 : 5);
        size_t len = 0;

        while (name < end && (*name == ' ' || *name == '\t'))
            name++;
        while (name + len < end && is_word_char(name[len]))
            len++;
        key = format_text("#%.*s", (int)len, name);
    } else {
        key = format_text("%.*s", (int)t->len, t->at);
    }
    (void)set_entry(&u->entries, key, strdup(what.data), what.data, true);
}

/* ---- the unit ---- */

static void unit_free(struct unit *u)
{
    entries_free(&u->entries);
    free(u->body.data);
}

static void unit_make(struct unit *u, const struct scan *s, int cell)
{
    *u = (struct unit){ .scan = s, .cell = cell };
    copy_entries(&u->entries, &known);
    put(&u->body, " ");
    for (size_t i = 0; i < s->item_count; i++) {
        const struct item *item = &s->items[i];

        switch (item->kind) {
        case ITEM_LINE:
            add_line(u, item);
            break;
        case ITEM_TYPE:
        case ITEM_VARIABLES:
            add_variables(u, item);
            break;
        case ITEM_FUNCTION:
            add_function(u, item);
            break;
        case ITEM_STATEMENT:
            u->has_statements = true;
            put_place(&u->body, u, item->from);
            put_tokens(&u->body, s, item->from, item->to, NULL);
            put(&u->body, "\n");
            break;
        case ITEM_VALUE:
            u->has_statements = true;
            u->value_from = item->from;
            u->value_to = item->to;
            break;
        }
    }
}

/* The C text of the unit.  @show: the last expression's value is shown. */
static void unit_write(const struct unit *u, bool show, struct text *out)
{
    put(out, "extern void cell_copy(void *, const void *, unsigned long);\n"
             "extern void cell_show(int, int, const void *, unsigned long);\n");
    for (size_t i = 0; i < u->entries.count; i++) {
        const struct entry *e = &u->entries.at[i];

        put(out, "%s", e->definition ? e->definition : e->declaration);
    }
    put(out, "\nint cell_%d(void);\nint cell_%d(void)\n{\n%s", u->cell, u->cell, u->body.data);
    if (u->value_to > u->value_from) {
        if (show)
            put(out, "__auto_type cell_value = (");
        put_place(out, u, u->value_from);
        put_tokens(out, u->scan, u->value_from, u->value_to, NULL);
        if (show)
            put(out, "\n);\ncell_show(_Generic(cell_value, _Bool: 1, char: 2, signed char: 3, "
                     "unsigned char: 4, short: 5, unsigned short: 6, int: 7, unsigned: 8, long: 9, "
                     "unsigned long: 10, long long: 11, unsigned long long: 12, float: 13, "
                     "double: 14, long double: 15, char *: 16, const char *: 16, default: 0), "
                     "__builtin_classify_type(cell_value), &cell_value, sizeof cell_value);\n");
        else
            put(out, ";\n");
    }
    if (u->has_main && !u->has_statements)
        put(out, "extern int cell_main(int (*)());\nreturn cell_main((int (*)())main);\n");
    put(out, "return 0;\n}\n");
}
