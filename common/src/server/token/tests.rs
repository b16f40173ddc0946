use super::*;
use crate::event::Token as _;

#[test]
fn every_token_survives_the_kernel() {
    for token in [
        Token::Signals,
        Token::Idle,
        Token::Upgrade,
        Token::Jobs,
        Token::Deadline,
        Token::Store,
        Token::Accept(Server::Main),
        Token::Accept(Server::Admin),
        Token::Listener(Server::Main, 3),
        Token::Listener(Server::Admin, 0),
        Token::Client(ClientId { server: Server::Main, number: 1 }),
        Token::Client(ClientId { server: Server::Admin, number: 1 << 50 }),
        Token::Daemon(0),
        Token::DaemonTimer(77),
        Token::Supervisor(Duty::Ping),
        Token::Supervisor(Duty::Status),
        Token::Supervisor(Duty::Retry),
        Token::Supervisor(Duty::Store),
        Token::Supervisor(Duty::Unit),
    ] {
        assert_eq!(Token::from_bits(token.into_bits()), token);
    }
}
