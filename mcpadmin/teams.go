package mcpadmin

import (
	"context"
	"net/http"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/account"
)

var teamDuties = []duty{
	{
		method: http.MethodGet, path: "/teams", summary: "Lists the teams, by their ids", query: paging,
		answer: teamList{}, status: http.StatusOK, do: listTeams,
	},
	{
		method: http.MethodPost, path: "/teams", summary: "Makes a team without members",
		body: newTeam{}, answer: account.Team{}, status: http.StatusCreated, do: createTeam,
	},
	{
		method: http.MethodGet, path: "/teams/{team}", summary: "Tells of a team, with its members",
		answer: teamDetails{}, status: http.StatusOK, do: showTeam,
	},
	{
		method: http.MethodPatch, path: "/teams/{team}", summary: "Changes a team",
		body: teamUpdate{}, answer: account.Team{}, status: http.StatusOK, do: updateTeam,
	},
	{
		method: http.MethodDelete, path: "/teams/{team}", summary: "Ends a team, with all memberships and all roles in it",
		status: http.StatusNoContent, do: deleteTeam,
	},
	{
		method: http.MethodGet, path: "/teams/{team}/members", summary: "Lists the members of a team",
		answer: memberList{}, status: http.StatusOK, do: listMembers,
	},
	{
		method: http.MethodPut, path: "/teams/{team}/members/{email}", summary: "Makes a user a member of a team, or another kind of member",
		body: newMember{}, status: http.StatusNoContent, do: setMember,
	},
	{
		method: http.MethodDelete, path: "/teams/{team}/members/{email}", summary: "Ends a membership",
		status: http.StatusNoContent, do: removeMember,
	},
}

// teamList is a part of the list of teams.
type teamList struct {
	Teams []account.Team `json:"teams"`
	// NextOffset is where the next part begins; it is left out after the last one.
	NextOffset int `json:"next_offset,omitzero"`
}

// newTeam is a team to be.
type newTeam struct {
	ID          text `json:"id"`
	Name        text `json:"name,omitzero"`
	Description text `json:"description,omitzero"`
}

// teamDetails is a team with its members.
type teamDetails struct {
	Team    account.Team         `json:"team"`
	Members []account.Membership `json:"members"`
}

// teamUpdate is what is to be changed of a team; what is left out stays.
type teamUpdate struct {
	Name        *string `json:"name,omitzero"`
	Description *string `json:"description,omitzero"`
}

// memberList is all members of a team.
type memberList struct {
	Members []account.Membership `json:"members"`
}

// newMember is what somebody is to be to a team: owner or member.
type newMember struct {
	Role text `json:"role"`
}

func (e *errand) accounts() (*account.Service, error) {
	desk, err := e.desk()
	if err != nil {
		return nil, err
	}
	return desk.Accounts(), nil
}

func listTeams(ctx context.Context, e *errand) (any, error) {
	accounts, err := e.accounts()
	if err != nil {
		return nil, err
	}
	teams, next, err := list(e, func(after string, limit int) ([]account.Team, string, error) {
		return accounts.Teams(ctx, after, limit)
	})
	return teamList{teams, next}, err
}

func createTeam(ctx context.Context, e *errand) (any, error) {
	accounts, err := e.accounts()
	if err != nil {
		return nil, err
	}
	var body newTeam
	if err := e.read(&body); err != nil {
		return nil, err
	}
	if err := need(map[string]text{"id": body.ID}); err != nil {
		return nil, err
	}
	return accounts.CreateTeam(ctx, e.by, string(body.ID), string(body.Name), string(body.Description))
}

func showTeam(ctx context.Context, e *errand) (any, error) {
	accounts, err := e.accounts()
	if err != nil {
		return nil, err
	}
	team, err := accounts.Team(ctx, e.value("team"))
	if err != nil {
		return nil, err
	}
	members, err := accounts.Members(ctx, team.ID)
	return teamDetails{team, members}, err
}

func updateTeam(ctx context.Context, e *errand) (any, error) {
	accounts, err := e.accounts()
	if err != nil {
		return nil, err
	}
	var body teamUpdate
	if err := e.read(&body); err != nil {
		return nil, err
	}
	if body == (teamUpdate{}) {
		return nil, &refusal{status: http.StatusBadRequest, reason: "member_missing", message: "the body needs something to change: name or description"}
	}
	return accounts.UpdateTeam(ctx, e.by, e.value("team"), body.Name, body.Description)
}

func deleteTeam(ctx context.Context, e *errand) (any, error) {
	accounts, err := e.accounts()
	if err != nil {
		return nil, err
	}
	return nil, accounts.DeleteTeam(ctx, e.by, e.value("team"))
}

func listMembers(ctx context.Context, e *errand) (any, error) {
	accounts, err := e.accounts()
	if err != nil {
		return nil, err
	}
	members, err := accounts.Members(ctx, e.value("team"))
	return memberList{members}, err
}

func setMember(ctx context.Context, e *errand) (any, error) {
	accounts, err := e.accounts()
	if err != nil {
		return nil, err
	}
	var body newMember
	if err := e.read(&body); err != nil {
		return nil, err
	}
	return nil, accounts.SetMember(ctx, e.by, e.value("team"), e.value("email"), account.MemberRole(body.Role))
}

func removeMember(ctx context.Context, e *errand) (any, error) {
	accounts, err := e.accounts()
	if err != nil {
		return nil, err
	}
	return nil, accounts.RemoveMember(ctx, e.by, e.value("team"), e.value("email"))
}
