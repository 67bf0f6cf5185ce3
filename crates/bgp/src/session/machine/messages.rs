//! What comes from the neighbour.

use std::time::Instant;

use super::connection::Phase;
use super::{Session, timers};
use crate::Family;
use crate::session::negotiate::{negotiate, own_open, stays};
use crate::session::{Action, ConnId, Reason};
use crate::wire::notification::fsm;
use crate::wire::{Kind, Notification, Open, RouteRefresh, Subtype, keepalive};

impl Session {
    /// A message other than UPDATE came. On a connection that the session does not have, it is ignored.
    pub fn message(&mut self, now: Instant, id: ConnId, kind: Kind, body: &[u8], out: &mut Vec<Action>) {
        if kind == Kind::Update {
            self.update(now, id, out);
            return;
        }
        let Some(connection) = self.find(id) else { return };
        connection.heard = now;
        let phase = connection.phase;
        self.received.add(kind, 1);
        match (kind, phase) {
            (Kind::Notification, _) => self.notified(now, id, body, out),
            (Kind::Open, Phase::Held | Phase::OpenSent) => match Open::parse(body) {
                Ok(open) => self.opened(now, id, open, out),
                Err(notification) => self.fail(now, id, notification, out),
            },
            (Kind::Keepalive, Phase::OpenConfirm) => self.establish(now, id, out),
            (Kind::Keepalive, Phase::Established) => {}
            (Kind::RouteRefresh, Phase::Established) => self.refresh(now, id, body, out),
            _ => self.fail(now, id, Notification::unexpected(unexpected(phase), kind), out),
        }
        self.note(now);
    }

    /// An UPDATE came; to be called before it is read. Returns whether it was due. If not, the connection has ended.
    #[inline]
    pub fn update(&mut self, now: Instant, id: ConnId, out: &mut Vec<Action>) -> bool {
        let Some(connection) = self.find(id) else { return false };
        let phase = connection.phase;
        connection.heard = now;
        self.received.add(Kind::Update, 1);
        if phase != Phase::Established {
            self.fail(now, id, Notification::unexpected(unexpected(phase), Kind::Update), out);
        }
        phase == Phase::Established
    }

    fn notified(&mut self, now: Instant, id: ConnId, body: &[u8], out: &mut Vec<Action>) {
        let (Ok(notification) | Err(notification)) = Notification::parse(body);
        self.end(now, id, Reason::Received(notification), out);
    }

    fn opened(&mut self, now: Instant, id: ConnId, open: Open, out: &mut Vec<Action>) {
        let Some(connection) = self.find(id) else { return };
        if connection.phase == Phase::OpenSent {
            return self.accept(now, id, open, out);
        }
        if connection.open.is_some() {
            let notification = Notification::unexpected(fsm::OPEN_SENT, Kind::Open);
            return self.fail(now, id, notification, out);
        }
        connection.open = Some(open);
        let session = self.connections.iter().find(|c| c.phase == Phase::Established);
        match session.map(|c| (c.id, now.saturating_duration_since(c.since))) {
            // A connection that was under way while the session came up is no restart.
            Some((_, age)) if age < timers::SETTLE => self.collide(id, out),
            // The neighbour lost the session, and this side has not seen it (RFC 4724, section 5). The end of the old
            // connection lets the new one go on.
            Some((old, _)) => self.end(now, old, Reason::Restarted, out),
            None => {}
        }
    }

    /// Sends the OPEN, and goes on with the neighbour's if it is already there.
    pub(super) fn release(&mut self, now: Instant, id: ConnId, out: &mut Vec<Action>) {
        let bytes = own_open(&self.local, &self.neighbor).to_bytes();
        let Some(connection) = self.find(id) else { return };
        connection.phase = Phase::OpenSent;
        connection.limit = now + timers::OPEN;
        let open = connection.open.take();
        self.sent.add(Kind::Open, 1);
        out.push(Action::Send(id, bytes));
        if let Some(open) = open {
            self.accept(now, id, open, out);
        }
    }

    fn accept(&mut self, now: Instant, id: ConnId, open: Open, out: &mut Vec<Action>) {
        let Some(direction) = self.find(id).map(|c| c.direction) else { return };
        let negotiated = match negotiate(&self.local, &self.neighbor, direction, &open) {
            Ok(negotiated) => negotiated,
            Err(reason) => {
                if let Reason::Refused { notification, .. } = &reason {
                    self.send_notification(id, notification, out);
                }
                return self.end(now, id, reason, out);
            }
        };
        // The first OPEN decides, on whichever of the two connections it comes (RFC 4271, section 6.8): its sender's
        // router ID is known from then on, and both sides choose the same.
        let other = self.connections.iter_mut().find(|c| c.id != id && c.phase != Phase::Held);
        if let Some(other) = other {
            if !stays(&self.local, &self.neighbor, direction, &open) {
                other.limit = other.limit.min(now + timers::WINNER);
                return self.collide(id, out);
            }
            let other = other.id;
            self.collide(other, out);
        }
        let Some(at) = self.connections.iter().position(|c| c.id == id) else { return };
        let connection = &mut self.connections[at];
        connection.phase = Phase::OpenConfirm;
        connection.open = Some(open);
        connection.negotiated = Some(Box::new(negotiated));
        connection.heard = now;
        connection.set_keepalive(now, &mut self.jitter);
        self.sent.add(Kind::Keepalive, 1);
        out.push(Action::Send(id, keepalive().to_vec()));
    }

    fn establish(&mut self, now: Instant, id: ConnId, out: &mut Vec<Action>) {
        let others: Vec<ConnId> = self.connections.iter().map(|c| c.id).filter(|other| *other != id).collect();
        others.into_iter().for_each(|other| self.collide(other, out));
        let Some(connection) = self.find(id) else { return };
        connection.phase = Phase::Established;
        connection.since = now;
        let negotiated = connection.negotiated.clone();
        (self.connecting, self.retry) = (None, None);
        out.extend(negotiated.map(|negotiated| Action::Up(id, negotiated)));
    }

    fn refresh(&mut self, now: Instant, id: ConnId, body: &[u8], out: &mut Vec<Action>) {
        let refresh = match RouteRefresh::parse(body) {
            Ok(Some(refresh)) => refresh,
            Ok(None) => return,
            Err(notification) => return self.fail(now, id, notification, out),
        };
        let Some(negotiated) = self.negotiated() else { return };
        let family = Family::from_wire(refresh.afi, refresh.safi).filter(|f| negotiated.families.contains(f));
        // Others are not asked for (RFC 2918, section 4), and marks mean nothing where they were not agreed on.
        if family.is_some() && (refresh.subtype == Subtype::Normal || negotiated.enhanced_refresh) {
            out.push(Action::Refresh(refresh));
        }
    }
}

fn unexpected(phase: Phase) -> u8 {
    match phase {
        Phase::Held | Phase::OpenSent => fsm::OPEN_SENT,
        Phase::OpenConfirm => fsm::OPEN_CONFIRM,
        Phase::Established => fsm::ESTABLISHED,
    }
}
