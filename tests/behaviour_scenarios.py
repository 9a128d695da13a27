"""What people rely on in SQLAlchemy's sessions, as scenarios for ``behaviours.Stage``.

Each returns what it saw; the test compares that, the tables and the statements with plain SQLAlchemy's. Nothing in here
knows of a migration.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from behaviours import Audit, Base, Counter, Customer, Entry, Order, Stage
from sqlalchemy import event, orm

SCENARIOS: list[Callable[[Stage], Any]] = []


def scenario(function: Callable[[Stage], Any]) -> Callable[[Stage], Any]:
    SCENARIOS.append(function)
    return function


def stock(stage: Stage, names: str = "ann bob") -> None:
    """Customers 1, 2, ... with two orders each, in one committed transaction."""
    with stage.begin() as session:
        for number, name in enumerate(names.split(), 1):
            orders = [Order(id=10 * number + n, total=n) for n in (1, 2)]
            session.add(Customer(id=number, name=name, orders=orders))


def names(session: orm.Session) -> list[str]:
    return list(session.scalars(sa.select(Customer.name).order_by(Customer.id)))


# --- the unit of work ---


@scenario
def add_change_delete(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann = session.get_one(Customer, 1)
        ann.name = "anna"
        session.add(Customer(name="generated"))
        session.delete(session.get_one(Customer, 2))
        session.commit()
        return ann.name, names(session), session.scalar(sa.select(sa.func.count(Order.id)))


@scenario
def add_all_gives_generated_keys_and_server_defaults(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        more = [Order(customer_id=1), Order(customer_id=2)]
        session.add_all(more)
        session.flush()
        return [(one.id, one.total) for one in more], session.commit()


@scenario
def merge_of_a_detached_instance(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann = session.get_one(Customer, 1)
        session.expunge(ann)
    ann.name = "merged"
    with stage.begin() as session:
        merged = session.merge(ann)
        new = session.merge(Customer(id=9, name="new"))
        answer = merged is ann, merged.name, new in session.new
    with stage.open() as session:
        return answer, names(session)


@scenario
def refresh_and_expire_see_what_others_committed(stage: Stage) -> Any:
    stock(stage)
    with stage.new() as first, stage.begin() as second:
        first.connection(execution_options={"isolation_level": "READ COMMITTED"})
        ann, bob = first.get_one(Customer, 1), first.get_one(Customer, 2)
        second.get_one(Customer, 1).name = "anna"
        second.get_one(Customer, 2).name = "bobby"
        second.commit()
        answer = [ann.name, bob.name]
        first.refresh(ann)
        first.expire(bob, ["name"])
        return [*answer, ann.name, bob.name]


@scenario
def states_of_an_instance(stage: Stage) -> Any:
    seen = []

    def look(instance: Any) -> None:
        state = sa.inspect(instance)
        seen.append((state.transient, state.pending, state.persistent, state.deleted, state.detached))

    with stage.open() as session:
        ann = Customer(id=1, name="ann")
        for step in (lambda: None, lambda: session.add(ann), session.flush, session.commit, lambda: session.delete(ann)):
            step()
            look(ann)
        session.flush()
        look(ann)
        session.rollback()
        look(ann)
    look(ann)
    orm.make_transient(ann)
    look(ann)
    return seen


@scenario
def rollback_restores_attributes_and_forgets_new_instances(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann, carl = session.get_one(Customer, 1), Customer(id=3, name="carl")
        ann.name = "changed"
        session.add(carl)
        session.flush()
        session.rollback()
        return ann.name, carl in session, names(session)


@scenario
def identity_map(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann = session.get_one(Customer, 1)
        again = session.scalars(sa.select(Customer).where(Customer.name == "ann")).one()
        old = session.scalars(sa.select(Customer).execution_options(populate_existing=True)).first()
        return ann is again, old is ann, session.get(Customer, 99), len(session.identity_map), ann in session


@scenario
def expunge_close_reset_and_use_again(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann = session.get_one(Customer, 1)
        session.close()
        answer = [sa.inspect(ann).detached, names(session)]
        bob = session.get_one(Customer, 2)
        session.reset()
        answer += [sa.inspect(bob).detached, names(session), session.in_transaction()]
        session.expunge_all()
        return answer


@scenario
def a_closed_session_that_may_not_be_used_again(stage: Stage) -> Any:
    with stage.open(stage.make(close_resets_only=False)) as session:
        session.add(Customer(id=1, name="lost"))
        session.close()
        try:
            names(session)
        except sa.exc.InvalidRequestError as fault:
            return str(fault)


@scenario
def invalidate_throws_the_connection_away(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        session.add(Customer(id=3, name="lost"))
        session.flush()
        session.invalidate()
        return names(session)


@scenario
def an_instance_survives_pickling(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann = session.get_one(Customer, 1, options=[orm.selectinload(Customer.orders)])
        text = pickle.dumps(ann)
    copy = pickle.loads(text)
    with stage.begin() as session:
        copy.name = "pickled " + str([order.total for order in copy.orders])
        session.add(copy)
    with stage.open() as session:
        return names(session)


# --- loading ---


@scenario
def lazy_loading(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        order = session.get_one(Order, 11)
        return order.customer.name, [other.id for other in order.customer.orders]


def _load(stage: Stage, option: Any) -> Any:
    stock(stage)
    with stage.open() as session:
        found = session.scalars(sa.select(Customer).options(option).order_by(Customer.id)).unique().all()
    return [(customer.name, [order.total for order in customer.orders]) for customer in found]


@scenario
def selectin_loading(stage: Stage) -> Any:
    return _load(stage, orm.selectinload(Customer.orders))


@scenario
def joined_loading(stage: Stage) -> Any:
    return _load(stage, orm.joinedload(Customer.orders))


@scenario
def subquery_loading(stage: Stage) -> Any:
    return _load(stage, orm.subqueryload(Customer.orders))


@scenario
def raise_on_lazy_loading(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann = session.get_one(Customer, 1, options=[orm.raiseload(Customer.orders)])
        try:
            return ann.orders
        except sa.exc.InvalidRequestError as fault:
            return str(fault)


@scenario
def deferred_columns(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann = session.get_one(Customer, 1, options=[orm.defer(Customer.name)])
        return "name" in ann.__dict__, ann.name


@scenario
def hybrids_and_column_properties(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        found = session.scalars(sa.select(Customer).where(Customer.shouted == "BOB")).one()
        return found.shouted, found.spent, session.scalars(sa.select(Customer.shouted).order_by(Customer.id)).all()


@scenario
def query_of_the_older_style(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        changed = session.query(Customer).filter_by(name="bob").update({"name": "bobby"})
        gone = session.query(Order).filter(Order.total == 1).delete()
        session.commit()
        return changed, gone, session.query(Customer.name).order_by("id").all(), session.query(Order).count()


@scenario
def joins_aggregates_unions_and_exists(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        totals = sa.select(Customer.name, sa.func.sum(Order.total)).join(Order).group_by(Customer.name)
        union = sa.union_all(sa.select(Customer.id), sa.select(Order.id)).order_by("id")
        return (
            [tuple(row) for row in session.execute(totals.order_by(Customer.name))],
            session.scalars(union).all(),
            session.scalar(sa.select(sa.exists().where(Order.total > 100))),
            session.scalars(sa.select(Customer).from_statement(sa.text("SELECT * FROM customer ORDER BY id"))).first().name,
        )


@scenario
def rows_by_portions(stage: Stage) -> Any:
    stock(stage, "ann bob carl")
    with stage.open() as session:
        statement = sa.select(Order.id).order_by(Order.id)
        portions = [list(portion) for portion in session.scalars(statement).partitions(4)]
        found = session.scalars(statement.execution_options(yield_per=2))
        return portions, [len(portion) for portion in found.partitions()]


@scenario
def streamed_instances(stage: Stage) -> Any:
    stock(stage, "ann bob carl")
    with stage.open() as session:
        found = session.scalars(sa.select(Order).order_by(Order.id), execution_options={"stream_results": True})
        return [order.total for order in found]


# --- cascades ---


@scenario
def cascades(stage: Stage) -> Any:
    stock(stage)
    with stage.begin() as session:
        ann = session.get_one(Customer, 1)
        orphan = ann.orders[0]
        ann.orders.remove(orphan)
        added = Order(id=77, customer=ann)
        answer = added in session
    with stage.begin() as session:
        session.delete(session.get_one(Customer, 2))
    with stage.open() as session:
        return answer, session.scalars(sa.select(Order.id).order_by(Order.id)).all()


# --- transactions ---


@scenario
def commit_expires_instances(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann = session.get_one(Customer, 1)
        session.commit()
        return "name" in ann.__dict__, ann.name


@scenario
def commit_leaves_instances_alone_if_told(stage: Stage) -> Any:
    factory = stage.make(expire_on_commit=False)
    with stage.begin(factory) as session:
        session.add(ann := Customer(id=1, name="ann"))
    with stage.begin(factory) as session:
        session.add(Customer(id=2, name="bob"))
    return ann.name, "name" in ann.__dict__


@scenario
def an_inner_rollback_keeps_the_outer_work(stage: Stage) -> Any:
    stock(stage)
    with stage.begin() as session:
        session.add(Customer(id=3, name="outer"))
        savepoint = session.begin_nested()
        session.add(Customer(id=4, name="inner"))
        session.flush()
        savepoint.rollback()
        with session.begin_nested():
            session.add(Customer(id=5, name="kept"))
        try:
            with session.begin_nested():
                session.add(Customer(id=6, name="ann"))
        except sa.exc.IntegrityError as fault:
            answer = fault.orig.args[0]
    with stage.open() as session:
        return answer, names(session)


@scenario
def savepoints_in_savepoints(stage: Stage) -> Any:
    with stage.begin() as session:
        session.add(Customer(id=1, name="root"))
        with session.begin_nested() as outer:
            session.add(Customer(id=2, name="middle"))
            with session.begin_nested():
                session.add(Customer(id=3, name="leaf"))
            answer = session.in_nested_transaction(), session.get_nested_transaction() is outer
            outer.rollback()
    with stage.begin() as session, session.begin_nested():
        session.add(Customer(id=4, name="other"))
    with stage.open() as session:
        return answer, names(session)


@scenario
def a_savepoint_before_anything_else(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        with session.begin_nested() as savepoint:
            session.get_one(Customer, 1).name = "undone"
            session.flush()
            savepoint.rollback()
        session.get_one(Customer, 2).name = "done"
        session.commit()
        return names(session)


@scenario
def context_managers_commit_and_roll_back(stage: Stage) -> Any:
    for number, is_broken in enumerate((False, True, False), 1):
        try:
            with stage.open() as session, session.begin():
                session.add(Customer(id=number, name=f"number {number}"))
                session.flush()
                if is_broken:
                    raise KeyError
        except KeyError:
            pass
    with stage.open() as session:
        return names(session)


@scenario
def the_factory_begins_and_rolls_back(stage: Stage) -> Any:
    stock(stage)
    try:
        with stage.begin() as session:
            session.add(Customer(id=3, name="lost"))
            session.flush()
            raise KeyError
    except KeyError:
        pass
    with stage.open() as session:
        return names(session)


@scenario
def leaving_without_commit_rolls_back(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        session.add(Customer(id=3, name="lost"))
        session.flush()
    with stage.open() as session:
        return names(session)


@scenario
def without_autobegin(stage: Stage) -> Any:
    stock(stage)
    with stage.open(stage.make(autobegin=False)) as session:
        try:
            names(session)
        except sa.exc.InvalidRequestError as fault:
            answer = str(fault)
        with session.begin():
            session.add(Customer(id=3, name="carl"))
        with session.begin():
            return answer, names(session)


@scenario
def one_session_for_many_transactions(stage: Stage) -> Any:
    with stage.open() as session:
        for number in (1, 2, 3):
            session.add(Customer(id=number, name=f"number {number}"))
            session.commit()
            stage.may_switch()
        return names(session), session.in_transaction(), session.rollback(), session.in_transaction()


@scenario
def an_integrity_error_and_on(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        session.add(Customer(id=3, name="ann"))
        try:
            session.flush()
        except sa.exc.IntegrityError as fault:
            answer = [type(fault.orig).__name__, fault.orig.args[0]]
        answer.append(session.is_active)
        session.rollback()
        session.add(Customer(id=3, name="carl"))
        session.commit()
        return answer, names(session)


@scenario
def a_failed_transaction_demands_a_rollback(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        session.add(Customer(id=1, name="twice"))
        with contextlib.suppress(sa.exc.IntegrityError):
            session.commit()
        try:
            names(session)
        except sa.exc.PendingRollbackError as fault:
            return fault.code, session.rollback(), names(session)
        return "no error", names(session)


@scenario
def optimistic_locking(stage: Stage) -> Any:
    with stage.begin() as session:
        session.add(Counter(id=1, value=0))
    with stage.open() as late:
        counter = late.get_one(Counter, 1)
        late.commit()
        assert counter.version == 1
        late.commit()
        late.expunge(counter)
    with stage.begin() as session:
        session.get_one(Counter, 1).value = 1
    with stage.open() as session:
        session.add(counter)
        counter.value = 5
        try:
            session.commit()
        except orm.exc.StaleDataError as fault:
            return type(fault).__name__, session.rollback(), session.get_one(Counter, 1).value


@scenario
def locked_rows(stage: Stage) -> Any:
    stock(stage)
    with stage.begin() as session:
        ann = session.get_one(Customer, 1, with_for_update=True)
        bob = session.scalars(sa.select(Customer).where(Customer.id == 2).with_for_update(read=True)).one()
        session.refresh(ann, with_for_update={"nowait": True})
        with stage.open() as other:
            try:
                other.scalars(sa.select(Customer).where(Customer.id == 1).with_for_update(nowait=True)).one()
            except sa.exc.OperationalError as fault:
                return ann.name, bob.name, fault.orig.args[0]


@scenario
def isolation_level_of_a_transaction(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        connection = session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        level = connection.get_isolation_level()
        session.add(Customer(id=3, name="carl"))
        session.commit()
        after = session.connection().get_isolation_level()
        return level, connection.closed, after


@scenario
def a_joined_outer_transaction(stage: Stage) -> Any:
    answer = []
    if stage.is_async:
        return answer  # an AsyncSession on a connection is tried by itself
    for number, mode in enumerate(("conditional_savepoint", "control_fully", "rollback_only", "create_savepoint"), 1):
        factory = stage.make(join_transaction_mode=mode)
        with stage.outside.connect() as connection:
            outer = connection.begin()
            with factory(bind=connection) as session:
                session.add(Customer(id=number, name=mode))
                session.commit()
                answer.append((names(session), outer.is_active))
                session.rollback()
            answer.append(outer.is_active)
            if outer.is_active:
                outer.rollback()
    return answer


# --- flushing ---


@scenario
def autoflush_and_its_absence(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        session.add(Customer(id=3, name="carl"))
        with session.no_autoflush:
            answer = [names(session)]
        answer.append(names(session))
    with stage.open(stage.make(autoflush=False)) as session:
        session.add(Customer(id=4, name="dora"))
        answer.append(names(session))
        session.flush()
        return [*answer, names(session)]


# --- statements ---


@scenario
def core_statements(stage: Stage) -> Any:
    table = Base.metadata.tables["customer"]
    with stage.begin() as session:
        many = session.execute(sa.insert(table), [{"id": n, "name": f"n{n}"} for n in (1, 2, 3)])
        one = session.execute(sa.insert(table).values(name="generated"))
        changed = session.execute(sa.update(table).where(table.c.id < 3).values(name=table.c.name + "!"))
        answer = many.rowcount, one.inserted_primary_key[0], changed.rowcount
    with stage.begin() as session:
        copied = sa.insert(Order).from_select(["customer_id", "total"], sa.select(table.c.id, table.c.id * 2))
        answer += (session.execute(copied).rowcount, session.execute(sa.delete(Order).where(Order.total > 4)).rowcount)
    with stage.open() as session:
        return answer, [tuple(row) for row in session.execute(sa.select(table).order_by(table.c.id))]


@scenario
def raw_statements(stage: Stage) -> Any:
    with stage.begin() as session:
        session.execute(sa.text("INSERT INTO customer (id, name) VALUES (:id, :name)"), {"id": 1, "name": "raw"})
        session.execute(
            sa.text("INSERT INTO customer (id, name) VALUES (:id, :name)"), [{"id": n, "name": str(n)} for n in (2, 3)]
        )
    with stage.begin() as session:
        answer = session.execute(sa.text("UPDATE customer SET name = 'changed' WHERE id = 2")).rowcount
        answer += session.execute(sa.text("DELETE FROM customer WHERE id = 3")).rowcount
    with stage.open() as session:
        rows = session.execute(sa.text("SELECT id, name FROM customer ORDER BY id")).mappings().all()
        return answer, [dict(row) for row in rows]


@scenario
def statements_on_the_connection(stage: Stage) -> Any:
    stock(stage)
    with stage.begin() as session:
        connection = session.connection()
        connection.execute(sa.insert(Customer).values(id=3, name="below"))
        connection.exec_driver_sql("UPDATE customer SET name = 'driver' WHERE id = 1")
        answer = names(session), session.connection() is connection, connection.in_transaction()
    with stage.open() as session:
        return answer, names(session)


@scenario
def orm_enabled_dml(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann, bob = session.get_one(Customer, 1), session.get_one(Customer, 2)
        for synchronize, name in (("fetch", "fetched"), ("evaluate", "evaluated"), (False, "unseen"), ("auto", "auto")):
            statement = sa.update(Customer).where(Customer.id == 1).values(name=name)
            session.execute(statement, execution_options={"synchronize_session": synchronize})
        answer = ann.name
        session.execute(sa.delete(Order).where(Order.customer_id == 2), execution_options={"synchronize_session": "fetch"})
        session.execute(sa.delete(Customer).where(Customer.id == 2))
        session.commit()
        return answer, names(session), bob in session


@scenario
def orm_bulk_statements(stage: Stage) -> Any:
    with stage.begin() as session:
        session.execute(sa.insert(Customer), [{"id": n, "name": f"n{n}"} for n in (1, 2, 3)])
        session.execute(sa.update(Customer), [{"id": n, "name": f"changed {n}"} for n in (1, 3)])
    with stage.begin() as session:
        session.execute(sa.insert(Customer), [{"name": "generated"}, {"name": "too"}])
    with stage.open() as session:
        return names(session)


@scenario
def older_bulk_methods(stage: Stage) -> Any:
    with stage.begin() as session:
        session.bulk_save_objects([Customer(id=1, name="one"), Customer(id=2, name="two")])
        session.bulk_insert_mappings(Customer, [{"id": 3, "name": "three"}, {"id": 4, "name": "four"}])
    with stage.begin() as session:
        session.bulk_update_mappings(Customer, [{"id": 1, "name": "first"}, {"id": 4, "name": "last"}])
        saved = [Customer(name="with key")]
        session.bulk_save_objects(saved, return_defaults=True)
    with stage.open() as session:
        return saved[0].id, names(session)


@scenario
def upserts(stage: Stage) -> Any:
    from sqlalchemy.dialects.mysql import insert

    stock(stage)
    with stage.begin() as session:
        statement = insert(Customer).values([{"id": 1, "name": "upserted"}, {"id": 3, "name": "carl"}])
        session.execute(statement.on_duplicate_key_update(name=statement.inserted.name))
    with stage.open() as session:
        return names(session)


# --- events ---


@scenario
def session_events(stage: Stage) -> Any:
    seen = []

    class Own(orm.Session):
        pass

    def note(name: str) -> Callable[..., None]:
        return lambda *_: seen.append(name)

    for name in (
        "before_flush", "after_flush", "after_flush_postexec", "before_commit", "after_commit", "after_rollback",
        "after_soft_rollback", "after_transaction_create", "after_transaction_end", "before_attach",
        "after_attach", "transient_to_pending", "pending_to_persistent", "loaded_as_persistent",
    ):  # fmt: skip
        event.listen(Own, name, note(name))
    factory = stage.make(class_=Own)
    with stage.begin(factory) as session:
        session.add(Customer(id=1, name="ann"))
    with stage.open(factory) as session:
        with session.begin_nested():
            session.add(Customer(id=2, name="bob"))
        session.get_one(Customer, 1)
        session.rollback()
        session.get_one(Customer, 1)
        session.commit()
    return seen


@scenario
def events_of_one_session_and_of_a_factory(stage: Stage) -> Any:
    seen = []
    factory = stage.make()
    if not stage.is_async:
        event.listen(factory, "before_commit", lambda session: seen.append("factory"))
    with stage.open(factory) as session:
        event.listen(session, "before_flush", lambda session, *_: seen.append(len(session.new)))
        session.add(Customer(id=1, name="ann"))
        session.commit()
    with stage.begin(factory) as session:
        session.add(Customer(id=2, name="bob"))
    return seen


@scenario
def an_event_that_writes_and_one_that_rewrites(stage: Stage) -> Any:
    class Own(orm.Session):
        pass

    @event.listens_for(Own, "before_flush")
    def write_too(session: orm.Session, *_: Any) -> None:
        for order in list(session.new):
            if isinstance(order, Order):
                session.get_one(Customer, order.customer_id).name += "+"

    @event.listens_for(Own, "do_orm_execute")
    def only_large(state: orm.ORMExecuteState) -> None:
        if state.is_select and not state.is_column_load and not state.is_relationship_load:
            criteria = orm.with_loader_criteria(Order, Order.total > 1)
            state.statement = state.statement.options(criteria)

    @event.listens_for(Own, "before_commit")
    def write_last(session: orm.Session) -> None:
        if session.new or session.dirty:
            session.execute(sa.text("INSERT INTO counter VALUES (NULL, 1, 1)"))

    stock(stage)
    factory = stage.make(class_=Own)
    with stage.begin(factory) as session:
        session.add(Order(id=31, customer_id=1, total=1))
    with stage.open(factory) as session:
        return session.scalars(sa.select(Order.id).order_by(Order.id)).all(), names(session)


@scenario
def an_event_that_answers_itself(stage: Stage) -> Any:
    class Own(orm.Session):
        pass

    @event.listens_for(Own, "do_orm_execute")
    def answer(state: orm.ORMExecuteState) -> Any:
        if state.is_select:
            frozen = state.invoke_statement().freeze()
            return frozen()
        return None

    stock(stage)
    with stage.open(stage.make(class_=Own)) as session:
        return names(session), session.get_one(Order, 11).customer.name


@scenario
def mapper_and_attribute_events(stage: Stage) -> Any:
    seen: list[Any] = []

    def on_insert(mapper: Any, connection: sa.Connection, target: Customer) -> None:
        connection.execute(sa.insert(Counter.__table__).values(value=target.id, version=1))
        seen.append(("insert", target.name))

    def on_update(mapper: Any, connection: sa.Connection, target: Customer) -> None:
        seen.append(("update", target.name, connection.scalar(sa.select(sa.func.count()).select_from(Counter))))

    def on_set(target: Customer, value: str, *_: Any) -> str:
        return value.strip()

    listeners: Any = (
        (Customer, "after_insert", on_insert, {}), (Customer, "before_update", on_update, {}),
        (Customer.name, "set", on_set, {"retval": True}),
    )  # fmt: skip
    for target, name, listener, options in listeners:
        event.listen(target, name, listener, **options)
    try:
        stock(stage)
        with stage.begin() as session:
            session.get_one(Customer, 1).name = "  stripped "
        return seen
    finally:
        for target, name, listener, _ in listeners:
            event.remove(target, name, listener)


# --- factories ---


@scenario
def an_own_session_class(stage: Stage) -> Any:
    class Own(orm.Session):
        def __init__(self, *args: Any, tenant: str = "nobody", **options: Any) -> None:
            super().__init__(*args, **options)
            self.tenant = tenant

        def greet(self) -> str:
            return f"{self.tenant} has {self.scalar(sa.select(sa.func.count(Customer.id)))}"

        def get_bind(self, *args: Any, **options: Any) -> Any:
            self.info["asked"] = True
            return super().get_bind(*args, **options)

    factory = stage.make(class_=Own, info={"of": "the factory"})
    stock(stage)
    with stage.open(factory, tenant="shop") as session:
        return session.greet(), isinstance(session, Own), session.info["asked"], session.info["of"]


@scenario
def configure_a_factory_later(stage: Stage) -> Any:
    factory = stage.make()
    factory.configure(expire_on_commit=False, autoflush=False)
    with stage.begin(factory) as session:
        session.add(ann := Customer(id=1, name="ann"))
    with stage.open(factory) as session:
        session.add(Customer(id=2, name="bob"))
        return ann.name, names(session)


@scenario
def options_of_one_session(stage: Stage) -> Any:
    stock(stage)
    with stage.open(None, autoflush=False, info={"a": 1}) as session:
        session.add(Customer(id=3, name="carl"))
        return names(session), session.info, orm.object_session(session.get_one(Customer, 1)) is session


@scenario
def another_database_is_left_alone(stage: Stage) -> Any:
    factory = stage.make(binds={Audit: stage.other})
    with stage.begin(factory) as session:
        session.add_all([Entry(id=1, text="one"), Customer(id=1, name="ann")])
    with stage.open(factory) as session:
        session.add(Entry(id=2, text="rolled back"))
        session.flush()
        session.rollback()
        session.add_all([Entry(id=3, text="three"), Customer(id=2, name="bob")])
        session.commit()
        return session.scalars(sa.select(Entry.text).order_by(Entry.id)).all(), names(session)


@scenario
def a_scoped_session(stage: Stage) -> Any:
    if stage.is_async:
        return None  # async_scoped_session is tried by itself
    stock(stage)
    registry = orm.scoped_session(stage.make())
    registry.add(Customer(id=3, name="carl"))
    registry.commit()
    answer = [registry() is registry(), registry.scalars(sa.select(sa.func.count(Customer.id))).one()]
    others: list[bool] = []
    thread = threading.Thread(target=lambda: (others.append(registry() is mine), registry.remove()))
    mine = registry()
    thread.start()
    thread.join()
    registry.remove()
    stage.may_switch()
    with registry.begin():
        registry.add(Customer(id=4, name="dora"))
    answer += [others, registry() is mine, names(registry())]
    registry.remove()
    return answer


@scenario
def query_property_and_object_session(stage: Stage) -> Any:
    stock(stage)
    with stage.open() as session:
        ann = session.get_one(Customer, 1)
        assert orm.object_session(ann) is session
        return session.is_modified(ann), bool(session.dirty), session.scalar(sa.select(sa.func.max(Order.id)))
